"""Where the time of a pass goes, as an answer: worlds that differ by one cause each, and a stretch of the run itself.

Times are mean times of a pass in the system, from its arrival to its end: what a user of the model waits for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moe_replay.simulate.answers.run_answer import Axes, posed
from moe_replay.simulate.answers.trace_part import Part
from moe_replay.simulate.config.run_config import DEFAULTS, ONLY_UNDER, RunConfig
from moe_replay.simulate.sweeps.points import simulated
from moe_replay.simulate.sweeps.regret import CAUSES, split, worlds
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.runs.run_records import RunRecords

COMPUTE, QUEUEING = "compute", "queueing"
LONGEST = 120  # batches of a stretch that can still be told apart in a picture


@dataclass(frozen=True)
class Stretch:
    """What ran between two moments of a run, in ns since its start: one array for each column of the two tables."""

    from_ns: int
    to_ns: int
    batches: dict[str, np.ndarray]
    transfers: dict[str, np.ndarray]


@dataclass(frozen=True)
class TimeAnswer:
    """Causes of the mean time of a pass: {cause: ms}, which add up to `total_ms`; and a stretch for each.

    `name` is the run's. Without expert memory the causes are compute and queueing.
    """

    axes: Axes
    name: str
    part: Part
    causes_ms: dict[str, float]
    total_ms: float
    stretches: dict[str, Stretch]
    said: str = ""


def explained(study: Study, axes: Axes, seed: int, most: int | None = None) -> TimeAnswer:
    """Return where the time of one configuration goes.

    Compute is what a pass takes alone in the machine with all experts resident, queueing what the other passes add to
    that; what expert slots add is split as in `simulate memory`. Every cause is the difference of two simulated runs.
    """
    study, config, part, said = posed(study, axes, seed, most)
    run = simulated(study, config)
    resident = replace(config, memory=None)
    times = {"resident": sojourn_ms(run if config.memory is None else simulated(study, resident))}
    alone = sojourn_ms(simulated(study, by_itself(resident)))
    causes = {COMPUTE: alone, QUEUEING: times["resident"] - alone}
    if config.memory is not None:
        causes |= split_by_worlds(study, config, run, times["resident"])
    told = dict(axes) if part.is_whole else {**axes, "sequences": part.sequences}
    name = config.name
    stretches = {cause: stretch_of(run, cause) for cause in causes}
    return TimeAnswer(told, name, part, causes, sojourn_ms(run), stretches, said)


def split_by_worlds(study: Study, config: RunConfig, run: RunRecords, resident_ms: float) -> dict[str, float]:
    """Return what each cause of `regret.CAUSES` adds; one for all where misses change what is computed."""
    around = worlds(config, run.header["memory"]["experts"])
    if not around:
        return {"misses": sojourn_ms(run) - resident_ms}
    known = {resident_of(config).name: resident_ms, config.name: sojourn_ms(run)}
    for each in around.values():
        if each.name not in known:  # worlds may coincide
            known[each.name] = sojourn_ms(simulated(study, each))
    causes = split({world: known[each.name] for world, each in around.items()})
    return causes if config.memory.prefetch != "none" else {name: causes[name] for name in CAUSES if name in OF_DEMANDS}


OF_DEMANDS = ("compulsory", "capacity", "policy", "bandwidth")  # the other causes are zero without a prefetcher


def resident_of(config: RunConfig) -> RunConfig:
    """Return the same run with all experts on the device."""
    return replace(config, memory=None)


def by_itself(config: RunConfig) -> RunConfig:
    """Return the same run with one sequence in the machine at a time."""
    others = {name: DEFAULTS[name] for name, (kind, _) in ONLY_UNDER.items() if kind == "arrivals"}
    return replace(config, **{**others, "arrivals": "closed", "in_flight": 1})


def sojourn_ms(records: RunRecords) -> float:
    """Return the mean time of a pass from its arrival to its end."""
    return float((records.passes["end_ns"] - records.passes["arrival_ns"]).mean()) / 1e6


def stretch_of(run: RunRecords, cause: str) -> Stretch:
    """Return a stretch of a run in which a cause is seen at its largest.

    Around the first batch of the pass that waited longest for it (queueing), around the transfer that waited longest,
    the last prefetch or the first load; for compute around the middle of the run.
    """
    starts_ns = run.batches["start_ns"]
    middle_ns = moment_of(run, cause)
    first = int(np.searchsorted(starts_ns, middle_ns)) - LONGEST // 2
    first = min(max(first, 0), max(len(starts_ns) - LONGEST, 0))
    rows = slice(first, first + LONGEST)
    from_ns, to_ns = int(starts_ns[rows].min()), int(run.batches["end_ns"][rows].max())
    transfers = {}
    if run.transfers is not None:
        inside = (run.transfers["end_ns"] >= from_ns) & (run.transfers["start_ns"] <= to_ns)
        transfers = {name: values[inside][: 2 * LONGEST] for name, values in run.transfers.items()}
    return Stretch(from_ns, to_ns, {name: values[rows] for name, values in run.batches.items()}, transfers)


def moment_of(run: RunRecords, cause: str) -> int:
    """Return the moment around which a cause is shown."""
    passes, transfers = run.passes, run.transfers
    if cause == QUEUEING:
        longest = int(np.argmax(passes["start_ns"] - passes["arrival_ns"]))
        return int(passes["start_ns"][longest])
    if cause == COMPUTE or transfers is None or not len(transfers["start_ns"]):
        return int(np.median(run.batches["start_ns"]))
    if cause == "compulsory":
        return int(transfers["start_ns"].min())
    return int(transfers["start_ns"][int(np.argmax(transfers["start_ns"] - transfers["asked_ns"]))])
