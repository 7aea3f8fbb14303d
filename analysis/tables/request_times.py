"""Times of requests by arrival rate: to the first token and per further token, with intervals over seeds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from moe_replay.analysis.estimates.intervals import mean_interval
from moe_replay.analysis.printing import fitted
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.glossary.lookup import title
from moe_replay.traces.runs.request_table import by_rate, speeds_by_rate
from moe_replay.traces.runs.time_statistics import PERCENTILES, TPOT, TTFT

SHOWN = (*TTFT, *TPOT, "requests_per_s", "output_tokens_per_s")
SPARED = ("requests_per_s", "output_tokens_per_s", "ttft_p99_ms", "tpot_p99_ms", "ttft_p50_ms", "tpot_p50_ms")
REMARKS = {
    "unstable": "unstable: later requests take longer than earlier ones, so that times grow with their number",
    "short": "short: too few requests to tell whether such a rate can be served",
}
MORE = "; --sequences gives more"  # where arrivals are drawn
YES, BY_MEAN, NO = "yes", "by mean", "no"


@dataclass(frozen=True)
class Targets:
    """The most ns that a time to the first token, and one per further token, may take, None: any.

    `at` says which of the requests' times is held to them: mean, p50, p95 or p99.
    """

    ttft_ns: float | None = None
    tpot_ns: float | None = None
    at: str = "p95"

    def __post_init__(self) -> None:
        if self.at not in PERCENTILES:
            raise unknown_name("--at", self.at, PERCENTILES)

    @property
    def limits_ms(self) -> dict[str, float]:
        """{column: the most it may be}."""
        asked = {"ttft": self.ttft_ns, "tpot": self.tpot_ns}
        return {f"{name}_{self.at}_ms": ns / 1e6 for name, ns in asked.items() if ns is not None}


def request_times(rows: list[dict], targets: Targets) -> pd.DataFrame:
    """Return a row for every arrival rate, ascending: means over seeds of their statistics, with t intervals.

    InputError where seeds of a rate have served different numbers of requests.
    """
    found, speeds = [], speeds_by_rate(rows)
    for rate, (runs, status) in by_rate(rows).items():
        served = sorted({run["requests"] for run in runs})
        if len(served) > 1:
            raise InputError(f"rate {rate}: its seeds have {served[0]} to {served[-1]} requests, allowed: equally many")
        row = {"speed": float(speeds[rate])} if speeds else {}
        row |= {"rate_per_s": float(rate) if rate else np.nan, "replications": len(runs), "requests": served[0]}
        for name in runs[0]:
            if name != "requests":
                mean, low, high = mean_interval(np.array([run[name] for run in runs]))
                row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        row["status"] = status
        found.append(row | ({"within": kept(row, targets)} if targets.limits_ms else {}))
    return pd.DataFrame(found).sort_values("rate_per_s", kind="stable", ignore_index=True)


def kept(row: dict, targets: Targets) -> str:
    """Return whether a rate keeps the targets; requests of a single token have no further one to wait for.

    A rate at which requests come faster than they are served keeps none: its times grow for as long as they come.
    """
    limits = targets.limits_ms.items()
    if row["status"] == "unstable" or not all(np.isnan(row[name]) or row[name] <= most for name, most in limits):
        return NO
    upper = (row[f"{name}_high"] for name, _ in limits)
    sure = all(np.isnan(high) or high <= most for high, (_, most) in zip(upper, limits, strict=True))
    return YES if sure and row["replications"] > 1 else BY_MEAN


def shown_requests(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text; a mean is followed by half the width of its interval where there is one."""
    text = pd.DataFrame({title("rate_per_s"): ["" if np.isnan(rate) else f"{rate:g}" for rate in table["rate_per_s"]]})
    if "speed" in table:
        text.insert(0, title("speed"), [f"{speed:g}" for speed in table["speed"]])
    text[title("replications")] = table["replications"].astype(str)
    for name in SHOWN:
        text[title(name)] = [cell(row, name) for _, row in table.iterrows()]
    for name in ("status", "within"):
        if name in table:
            text[title(name)] = table[name]
    return fitted(text, [title(name) for name in SPARED])


def cell(row: pd.Series, name: str) -> str:
    """Return a mean with half of its interval, as text."""
    if np.isnan(row[name]):
        return ""
    half = (row[f"{name}_high"] - row[f"{name}_low"]) / 2
    return f"{row[name]:.4g}" if np.isnan(half) else f"{row[name]:.4g}±{half:.2g}"


def highest_said(table: pd.DataFrame, targets: Targets, system: dict) -> list[str]:
    """Return what there is to say: the highest rate within the targets, and what the times leave out."""
    said = [
        REMARKS[status] + MORE * (status == "short" and "speed" not in table)
        for status in REMARKS if (table["status"] == status).any()
    ]  # fmt: skip
    if targets.limits_ms and table["rate_per_s"].notna().all():
        said.append(highest_rate(table, targets))
    if system.get("pools") and not system.get("kv_bytes_per_token"):
        said.append("from pool to pool: 0 bytes for a prompt's token")
    return said


def highest_rate(table: pd.DataFrame, targets: Targets) -> str:
    """Return the highest rate of those that were tried which keeps the targets, as all lower ones do, in a sentence."""
    limits = " and ".join(f"{title(name)} <= {most:g} ms" for name, most in targets.limits_ms.items())
    below = table[(table["within"] != NO).cummin()]
    if below.empty:
        return f"{limits}: kept by no rate that was tried"
    best = below.iloc[-1]
    more = "" if len(below) < len(table) else ", the highest that was tried"
    unsure = "" if best["within"] == YES else "; by the mean over seeds alone"
    return f"{limits}: up to {best['rate_per_s']:g} requests/s{more}{unsure}"
