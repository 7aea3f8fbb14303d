"""How balanced are devices on selections that a planner did not see? Planners on recorded traces (Huang et al. 2023).

Their protocol: planners see the first half of the batches and are scored on the second. *Max Load* is the largest share
of any batch's selections that one device gets. `bound` knows the second half and replicates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LANGUAGE_TRACES, TRAINING, WIDE_TRACE, LogSet
from moe_replay.analysis.reading.placed_experts import PLACED, read_placed
from moe_replay.analysis.reading.setting_words import trace_words
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.load_trace import read_loads

NAME = "balance"
GREEDY, PRINTED, WEAKER = "greedy", "anti-correlation", "anti-correlation=0.02"  # Huang et al.'s, and one of ours
UNEVEN = "unbalanced.loads.parquet"  # of a model that was trained without its balance loss
KEPT = (
    "planner", "known", "devices", "redundant", "split", "device_max_over_mean", "device_max_over_mean_worst",
    "max_load", "avg_max_load", "fit_device_max_over_mean", "useless_replicas",
)  # fmt: skip


def build_balance(inputs: Inputs, out: Path) -> list[str]:
    """Write the table and its claim, from the placements that were scored on the traces of every set."""
    rows: list[dict] = []
    for log_set in inputs.sets:
        for name, short, reader in recorded(log_set):
            rows += set_rows(inputs, log_set, name, short, reader)
    if not rows:
        rows.append(hole_row("all sets", None, f"no set holds {WIDE_TRACE} or {LANGUAGE_TRACES[1]}"))
    table = write_tables(out, {NAME: rows}, inputs.within(PLACED))[NAME]
    write_claims(out, {NAME: balance_claim(table)})
    return holes(table)


def recorded(log_set: LogSet) -> Iterator[tuple[str, str, Callable[[Path], object]]]:
    """Yield (file, its short name, what reads it) of the selections of a set that experts are placed by."""
    for name in (WIDE_TRACE, LANGUAGE_TRACES[1]):
        if (log_set.folder / name).exists():
            yield name, name.removesuffix(".trace.parquet"), load_trace
    if (log_set.folder / TRAINING / UNEVEN).exists():
        yield f"{TRAINING}/{UNEVEN}", TRAINING, read_loads


def set_rows(inputs: Inputs, log_set: LogSet, name: str, short: str, reader: Callable[[Path], object]) -> list[dict]:
    """Return the rows of one trace of a set, or a hole: what could not be read, or was not placed."""
    found, reason = inputs.read(log_set, name, reader)
    if found is not None:
        read = partial(read_placed, digest=found.digest)
        table, reason = inputs.read_simulated(log_set, f"{PLACED}/{short}/placements.csv", read)
        if table is not None:
            what = {"set": log_set.name, "trace": short, "status": "ok", "reason": ""}
            return [what | row for row in table.reindex(columns=KEPT).to_dict("records")]
    return [{**hole_row(log_set.name, None, reason), "trace": short}]


def balance_claim(rows: pd.DataFrame) -> dict:
    """Return the sentence: does Huang et al.'s placement help on selections that it did not see, with which weight?"""
    fine = rows[rows["status"] == "ok"] if "max_load" in rows else rows.iloc[:0]
    if fine.empty:
        return {"claim": "No placement could be scored.", "numbers": {}}
    groups = {(name, trace): numbers(own) for (name, trace), own in fine.groupby(["set", "trace"], sort=False)}
    many = len(groups)
    helped = [at for at, each in groups.items() if each[f"max_load {GREEDY}"] < each["max_load contiguous"]]
    weaker = [at for at, each in groups.items() if each[f"max_load {WEAKER}"] < each[f"max_load {PRINTED}"]]
    said = [
        f"{trace_words(*at)} {each['max_load contiguous']:.3f}, {each[f'max_load {GREEDY}']:.3f}, "
        f"{each[f'max_load {PRINTED}']:.3f} and {each[f'max_load {WEAKER}']:.3f}"
        for at, each in groups.items()
    ]  # fmt: skip
    devices = next(iter(groups.values()))["devices"]
    claim = (
        "Planned from the first half of the batches and scored on the second, Huang et al.'s greedy placement lowers "
        f"the largest share of a batch that one of {devices} devices gets (Max Load) on {len(helped)} of {many} "
        f"traces. A correlation weight of 0.02 is better than the printed 0.5 on {len(weaker)} of {many}. Max Load, "
        f"experts in order, greedy, weight 0.5 and 0.02: {'; '.join(said)}."
    )
    return {"claim": claim, "numbers": {trace_words(*at): each for at, each in groups.items()}}


def numbers(own: pd.DataFrame) -> dict:
    """Return the numbers of one trace: Max Load and balance of every planner, and with replicas."""
    plain = own[own["redundant"] == 0].set_index("planner")
    found = {"devices": int(own["devices"].iloc[0])}
    found |= {f"max_load {name}": value for name, value in plain["max_load"].dropna().items()}
    found |= {f"max_over_mean {name}": value for name, value in plain["device_max_over_mean"].items()}
    for row in own[own["redundant"] > 0].to_dict("records"):
        found[f"max_over_mean {row['planner']} {row['redundant']} redundant"] = row["device_max_over_mean"]
    return found
