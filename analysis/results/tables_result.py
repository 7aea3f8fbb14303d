"""CSV tables as results, whichever command wrote them: a table is known by its columns, a figure's by its name."""

from pathlib import Path

import pandas as pd

from moe_replay.analysis.results.memory_result import memory_result
from moe_replay.analysis.results.misses_result import misses_result
from moe_replay.analysis.results.planning_results import (
    beside,
    orders_result,
    placements_result,
    plans_result,
    rebalances_result,
)
from moe_replay.analysis.results.result import TABLE, Result, counted, first_sentence
from moe_replay.analysis.results.runs_result import runs_result
from moe_replay.analysis.table_builds import BUILDS
from moe_replay.analysis.written_tables import CLAIMS, claims_in, holes
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.command_line.outputs import provenance_of
from moe_replay.traces.errors import InputError

HOLES_SAID = 6
WRITTEN = "allowed: what this version of the command wrote"
TRUST = "fidelity"  # the figure whose claim says how far simulations may be trusted
NO_VALUE = {"unstable": "more arrives than can be served", "short": "values of the whole run, too short for a window"}
# What a table is by the columns that only it has; the first that fits.
BY_COLUMNS = (
    ({"set", "status", "reason"}, None),
    ({"world", "cache", "slots", "slowdown", "replications"}, memory_result),
    ({"scheduler", "replications", "throughput_per_s", "status"}, runs_result),
    ({"policy", "slots", "miss_ratio"}, misses_result),
    ({"search", "slots", "predicted_loss", "memory_budget"}, plans_result),
    ({"placement", "planner", "plan_interval", "copies_per_layer", "device_max_over_mean"}, rebalances_result),
    ({"planner", "redundant", "device_max_over_mean", "useless_replicas"}, placements_result),
    ({"order_policy", "order_peak_bytes", "order_bound_bytes"}, orders_result),
)
WITH_ABOUT = (plans_result, placements_result)  # take what the file beside the table says too


def csv_result(path: Path, name: str) -> Result | None:
    """Return the table in a CSV file as a result, None where it has no row; InputError where it is no table."""
    try:
        table = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a CSV table ({str(error)[:60]})") from None
    if table.empty:
        return None
    made = provenance_of(path)
    make = next((each for columns, each in BY_COLUMNS if columns <= {*table}), None)
    if make is None:
        return figure_table(path, name, table, made)
    try:
        return make(table, name, made, *([beside(path)] if make in WITH_ABOUT else []))
    except KeyError as error:
        raise InputError(f"{path}: lacks column {error}; {WRITTEN}") from None
    except (TypeError, ValueError) as error:  # words where numbers are meant
        raise InputError(f"{path}: holds values of another kind ({str(error)[:80]}); {WRITTEN}") from None


def figure_table(path: Path, name: str, table: pd.DataFrame, made: dict) -> Result:
    """Return a table of `analysis tables`, or of somebody else's, with the claim of its figure where it has one."""
    about = figure_of(path.stem)
    claim = claims_in(path.with_name(CLAIMS)).get(path.stem, {}).get("claim", "")
    missing = holes(table)
    doubts = [f"{line}." for line in missing[:HOLES_SAID]]
    if about == TRUST and claim:
        doubts.append(first_sentence(claim))
    counts = table["status"].value_counts() if "status" in table else {}
    doubts += [
        f"{counted(int(counts[word]), 'row')} {word}: {why}." for word, why in NO_VALUE.items() if word in counts
    ]
    if len(missing) > HOLES_SAID:
        doubts.append(f"And {counted(len(missing) - HOLES_SAID, 'further row')} missing or failed.")
    return Result(TABLE, name, table, about=about, made=made, claim=claim, doubts=tuple(doubts), digest=sha256_of(path))


def figure_of(table: str) -> str:
    """Return the figure that a table belongs to, by the longest name that its own begins with; empty for none."""
    found = [name for name in BUILDS if table == name or table.startswith(f"{name}_")]
    return max(found, key=len, default="")
