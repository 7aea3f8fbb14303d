"""The tables `open_loop` and `open_loop_times`: when may a re-gated trace be trusted?

In every set, `rules/` holds traces recorded under rules for K or at another fixed k, named `MODEL-*` after the model's
own trace beside the folder, `MODEL.trace.parquet`. A set without that folder is left out; where no set has one, that is
a hole.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.printing import fitted
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import COSTS, RULES, WIDE_TRACE, LogSet
from moe_replay.analysis.tables.open_loop.predicted_times import RECORDED, REGATED, SOURCE, TimedRuns
from moe_replay.analysis.tables.open_loop.rows import ALL_LAYERS, RULE_OF_TRUST, open_loop_rows, verdict
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.glossary.lookup import titles
from moe_replay.traces.selections import Trace

OPEN_LOOP = "open_loop"
TIMES = "open_loop_times"
SUFFIX = ".trace.parquet"
SEED = 0  # of the random halves behind the noise floor
NOT_TIMED = {"base": "base has no cost table, so no times are predicted"}
SHOWN = titles((
    "set", "model", "rule", "mean_k_recorded", "mean_k_error_percent", "load_tv_regated", "load_tv_noise",
    "load_tv_source", "jaccard", "same_set_share", "throughput_error_percent", "may_be_trusted", "status", "reason",
))  # fmt: skip

SPARED = ("load_tv_source", "jaccard", "load_tv_noise")  # left out of a printed table that is too wide, first to last


def build_open_loop(inputs: Inputs, out: Path) -> list[str]:
    """Write `open_loop` and `open_loop_times`."""
    tables, digests = open_loop_tables(inputs)
    written = write_tables(out, tables, digests)
    write_claims(out, {OPEN_LOOP: open_loop_claim(written[OPEN_LOOP])})
    return holes(written[OPEN_LOOP]) + holes(written[TIMES])


def open_loop_tables(inputs: Inputs) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """Return (the rows of both tables, the digests of what only they rest on)."""
    rows, times, digests = [], [], {}
    for log_set in inputs.of_images:
        timed = TimedRuns(log_set.simulated / OPEN_LOOP) if log_set.simulated else None
        for path in sorted((log_set.folder / RULES).glob(f"*{SUFFIX}")):
            made, made_times = rule_rows(inputs, log_set, path.name.removesuffix(SUFFIX), timed)
            rows += made
            times += made_times
            used = inputs.used(f"{RULES}/{path.name}") | inputs.used(f"{model_of(path)}{SUFFIX}")
            digests |= {place: digest for place, digest in used.items() if place.startswith(f"{log_set.name}/")}
        if timed is not None and timed.digests:
            digests[f"{log_set.name}/{OPEN_LOOP}"] = timed.digest()
    rows = rows or [hole_row("all sets", None, f"no set holds {RULES}/ with traces recorded under rules")]
    times = times or [{"set": "all sets", "status": "skipped", "reason": "nothing was recorded under rules"}]
    return {OPEN_LOOP: rows, TIMES: times}, digests


def rule_rows(inputs: Inputs, log_set: LogSet, run: str, timed: TimedRuns | None) -> tuple[list[dict], list[dict]]:
    """Return (rows per layer, rows per setting) of one recorded rule; a failed one keeps a row in the first."""
    model = model_of(Path(run))
    told = {"set": log_set.name, "run": run, "model": model}
    try:
        source = source_trace(inputs, log_set, model)
        recorded, reason = inputs.read(log_set, f"{RULES}/{run}{SUFFIX}", load_trace)
        if recorded is None:
            raise InputError(reason)
        rows, regated = open_loop_rows(source, recorded, np.random.default_rng(SEED))
    except InputError as error:
        return [{**hole_row(log_set.name, None, str(error)), **told}], []
    traces = {SOURCE: source, RECORDED: recorded, REGATED: regated}
    times = time_rows(log_set, run, model, timed, traces)
    whole = rows[-1]
    closed = [row for row in times if row.get("arrivals") == "closed"]
    for name in ("throughput_error_percent", "throughput_source_error_percent"):
        whole[name] = closed[0][name] if closed else np.nan
    whole["may_be_trusted"] = verdict(whole)
    return [{**told, **row} for row in rows], [{**told, "rule": whole["rule"], **row} for row in times]


def model_of(path: Path) -> str:
    """Return the model whose rule a trace was recorded under: what its name begins with."""
    return path.name.partition("-")[0]


def source_trace(inputs: Inputs, log_set: LogSet, model: str) -> Trace:
    """Return the trace that a model's rules are predicted from; InputError where it cannot be read."""
    name = f"{model}{SUFFIX}"
    trace, reason = inputs.wide_trace(log_set) if name == WIDE_TRACE else inputs.read(log_set, name, load_trace)
    if trace is None:
        raise InputError(reason)
    return trace


def time_rows(log_set: LogSet, run: str, model: str, timed: TimedRuns | None, traces: dict[str, Trace]) -> list[dict]:
    """Return the times of one rule, or one row that says why there are none."""
    if timed is None or model in NOT_TIMED or not (log_set.folder / COSTS).exists():
        reason = NOT_TIMED.get(model, f"no {COSTS}, or no folder of simulated runs")
        return [{"status": "skipped", "reason": reason}]
    try:
        return timed.rows(run, model, {name: trace.digest for name, trace in traces.items()})
    except InputError as error:
        reason = str(error).replace(f"{timed.folder}/", "")
        return [hole_row(log_set.name, None, f"{OPEN_LOOP}/{reason}")]


def shown_rules(table: pd.DataFrame) -> pd.DataFrame:
    """Return what a person reads first of the table `open_loop`, as text: a row per rule, failed ones too."""
    whole = table[(table["layer"] == ALL_LAYERS) | (table["status"] != "ok")] if "layer" in table else table
    kept = whole[[name for name in SHOWN if name in whole]].rename(columns=SHOWN)
    text = kept.map(lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)).replace("nan", "")
    return fitted(text.loc[:, (text != "").any()], titles(SPARED).values())


def open_loop_claim(table: pd.DataFrame) -> dict:
    """Return when re-gating may be trusted: one sentence per set and model, and the numbers."""
    whole = table[(table["layer"] == ALL_LAYERS) & (table["status"] == "ok")] if "layer" in table else table.iloc[:0]
    if whole.empty:
        return {"claim": "No trace recorded under a rule could be read, so nothing can be said about re-gating.",
                "numbers": {}}  # fmt: skip
    sentences = [
        model_sentence(name, model, rows) for (name, model), rows in whole.groupby(["set", "model"], sort=False)
    ]
    kept = ["rule", "mean_k_recorded", "mean_k_regated", "mean_k_error_percent", "load_tv_regated", "load_tv_noise",
            "load_tv_over_noise", "load_tv_source", "jaccard", "same_set_share", "throughput_error_percent",
            "may_be_trusted"]  # fmt: skip
    numbers = {f"{row['set']} {row['run']}": {name: row[name] for name in kept} for row in whole.to_dict("records")}
    return {"claim": f"Trusted means: {RULE_OF_TRUST}. " + " ".join(sentences), "numbers": numbers}


def model_sentence(name: str, model: str, rows: pd.DataFrame) -> str:
    """Return what one model's rules say."""
    failed = rows.loc[rows["may_be_trusted"] == "no", "rule"].tolist()
    but = f" (not {', '.join(failed)})" if failed else ""
    mean_k, same_set, timed = rows["mean_k_recorded"], rows["same_set_share"], rows["throughput_error_percent"].dropna()
    times = f"throughput by at most {timed.abs().max():.1f} %" if len(timed) else "times are not predicted"
    head = (
        f"{name}, {model}, re-gated from {rows['source_rule'].iloc[0]} to a mean K of {mean_k.min():.1f} to "
        f"{mean_k.max():.1f}: {len(rows) - len(failed)} of {len(rows)} rules may be trusted{but}"
    )
    return (
        f"{head}; mean K is off by at most {rows['mean_k_error_percent'].abs().max():.1f} %, load by "
        f"{rows['load_tv_regated'].max():.3f} (not re-gated {rows['load_tv_source'].max():.3f}, between two samples "
        f"{rows['load_tv_noise'].max():.3f}), {times}; which experts a token gets is less certain: "
        f"{100 * same_set.min():.0f} to {100 * same_set.max():.0f} % of the sets are the same."
    )
