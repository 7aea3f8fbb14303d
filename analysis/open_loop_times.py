"""What a re-gated trace predicts of time, against a recorded one: runs of `python -m simulate open-loop`."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from analysis.open_loop import error_percent
from analysis.replications import by_configuration, combined
from analysis.settings import describe_config
from traces.errors import InputError
from traces.files import sha256_of
from traces.run_records import load_run, run_names
from traces.run_statistics import RunStatistics, run_statistics

REGATED, RECORDED, SOURCE = "regated", "recorded", "source"
TIMED = {"throughput": "per_s", "latency_p50": "ms", "latency_p95": "ms"}


@dataclass
class TimedRuns:
    """The open-loop runs of one set, in `folder`; `digests` fills with those of the files that were read."""

    folder: Path
    digests: dict[str, str] = field(default_factory=dict)

    def rows(self, run: str, trace_digests: dict[str, str]) -> list[dict]:
        """Return a row per setting of one rule, recorded against re-gated, replications combined.

        `trace_digests` names the traces that the runs have to come from. InputError where runs are missing or stem
        from others.
        """
        recorded = self.groups(f"{run}/{RECORDED}", trace_digests[RECORDED])
        regated = self.groups(f"{run}/{REGATED}", trace_digests[REGATED])
        source = self.groups(SOURCE, trace_digests[SOURCE])
        if list(recorded) != list(regated):
            raise InputError(f"{run}: runs of {REGATED} are {', '.join(regated)}, of {RECORDED} {', '.join(recorded)}")
        return [
            time_row(regated[setting], recorded[setting], source.get(setting)) | {"setting": setting}
            for setting in recorded
        ]

    def groups(self, place: str, trace_digest: str) -> dict[str, list[RunStatistics]]:
        """Return the runs of one folder by setting, each a list of replications."""
        folder = self.folder / place
        if not folder.is_dir():
            raise InputError(f"{folder.parent.name}/{folder.name}: no such file")
        runs = [self.read(folder, name, trace_digest) for name in run_names(folder)]
        if not runs:
            raise InputError(f"{folder.parent.name}/{folder.name}: holds no complete run")
        return {describe_config(group[0].config, None)["setting"]: group for group in by_configuration(runs)}

    def read(self, folder: Path, name: str, trace_digest: str) -> RunStatistics:
        """Return one run's statistics; refuse one of another trace."""
        records = load_run(folder, name)
        if records.header["trace_digest"] != trace_digest:
            raise InputError(f"{folder.parent.name}/{folder.name}/{name}: was simulated from another trace")
        for path in sorted(folder.glob(f"{name}.*.parquet")):
            self.digests[str(path.relative_to(self.folder))] = sha256_of(path)
        return run_statistics(records)

    def digest(self) -> str:
        """Return one digest for all files that were read."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self.digests.items()))
        return f"{hashlib.sha256(lines.encode()).hexdigest()} over {len(self.digests)} files"


def time_row(regated: list[RunStatistics], recorded: list[RunStatistics], source: list[RunStatistics] | None) -> dict:
    """Return predicted and true times of one setting, their errors, and the error of one who does not re-gate."""
    predicted, true = combined(regated), combined(recorded)
    row = {"mode": recorded[0].config["arrivals"], "queue_size": recorded[0].config["queue_size"],
           "replications": len(recorded)}  # fmt: skip
    for name, unit in TIMED.items():
        values = [side[f"{name}_{unit}"] for side in (true, predicted)]
        row |= {f"{name}_{side}_{unit}": value for side, value in zip((RECORDED, REGATED), values, strict=True)}
        row[f"{name}_error_percent"] = error_percent(values[1], values[0])
    naive = combined(source)["throughput_per_s"] if source else np.nan
    row["throughput_source_error_percent"] = error_percent(naive, true["throughput_per_s"])
    bad = next((each for each in (true, predicted) if each["status"] != "ok"), None)
    return {**row, "status": bad["status"] if bad else "ok", "reason": bad["reason"] if bad else ""}
