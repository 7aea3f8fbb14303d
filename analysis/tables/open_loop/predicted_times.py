"""What a re-gated trace predicts of time, against a recorded one: tables of `python -m simulate open-loop`."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moe_replay.analysis.estimates.replications import by_configuration, combined, steady
from moe_replay.analysis.reading.setting_words import describe_config
from moe_replay.analysis.tables.open_loop.rows import error_percent
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_statistics import RunStatistics
from moe_replay.traces.runs.sweep_table import SweepPoint, load_sweep

REGATED, RECORDED, SOURCE = "regated", "recorded", "source"
TIMED = {"throughput": "per_s", "latency_p50": "ms", "latency_p95": "ms"}


@dataclass
class TimedRuns:
    """The open-loop runs of one set: tables in `folder`, which has one for every model.

    `digests` fills with those of the tables that were read.
    """

    folder: Path
    digests: dict[str, str] = field(default_factory=dict)

    def rows(self, run: str, model: str, trace_digests: dict[str, str]) -> list[dict]:
        """Return a row per setting of one rule of a model, recorded against re-gated, replications combined.

        `trace_digests` names the traces that the runs have to come from. InputError where a table is missing
        or stems from another one, or where a run failed.
        """
        recorded = self.groups(f"{model}/{run}/{RECORDED}", trace_digests[RECORDED])
        regated = self.groups(f"{model}/{run}/{REGATED}", trace_digests[REGATED])
        source = self.groups(f"{model}/{SOURCE}", trace_digests[SOURCE])
        if list(recorded) != list(regated):
            raise InputError(f"{run}: runs of {REGATED} are {', '.join(regated)}, of {RECORDED} {', '.join(recorded)}")
        return [
            time_row(regated[setting], recorded[setting], source.get(setting)) | {"setting": setting}
            for setting in recorded
        ]

    def groups(self, place: str, trace_digest: str) -> dict[str, list[RunStatistics]]:
        """Return the runs in one table by setting, each a list of replications; refuse those of another trace."""
        name = f"{place}.parquet"
        points, header = load_sweep(self.folder / name)
        if header.get("trace_digest") != trace_digest:
            raise InputError(f"{name}: was simulated from another trace")
        self.digests[name] = sha256_of(self.folder / name)
        runs = [statistics_of(point, name) for point in points]
        return {describe_config(group[0].config, None)["setting"]: group for group in by_configuration(runs)}

    def digest(self) -> str:
        """Return one digest for all tables that were read."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self.digests.items()))
        return f"{hashlib.sha256(lines.encode()).hexdigest()} over {len(self.digests)} files"


def statistics_of(point: SweepPoint, name: str) -> RunStatistics:
    """Return the statistics of a point in the table of that name; InputError says which one failed, and why."""
    try:
        return point.statistics
    except InputError as error:
        raise InputError(f"{name}: {point.run}: {error}") from None


def time_row(regated: list[RunStatistics], recorded: list[RunStatistics], source: list[RunStatistics] | None) -> dict:
    """Return predicted and true times of one setting, their errors, and the error of one who does not re-gate."""
    predicted, true = steady(combined(regated)), steady(combined(recorded))
    row = {"arrivals": recorded[0].config["arrivals"], "queue_size": recorded[0].config["queue_size"],
           "replications": len(recorded)}  # fmt: skip
    for name, unit in TIMED.items():
        values = [side[f"{name}_{unit}"] for side in (true, predicted)]
        row |= {f"{name}_{side}_{unit}": value for side, value in zip((RECORDED, REGATED), values, strict=True)}
        row[f"{name}_error_percent"] = error_percent(values[1], values[0])
    naive = combined(source)["throughput_per_s"] if source else np.nan
    row["throughput_source_error_percent"] = error_percent(naive, true["throughput_per_s"])
    bad = next((each for each in (true, predicted) if each["status"] != "ok"), None)
    return {**row, "status": bad["status"] if bad else "ok", "reason": bad["reason"] if bad else ""}
