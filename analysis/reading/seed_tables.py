"""What many seeds of the simulated configurations say: the table beside their single runs."""

from dataclasses import dataclass, field
from pathlib import Path

from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_statistics import RunStatistics
from moe_replay.traces.runs.sweep_table import FAILED, REPLICATIONS, load_sweep


@dataclass(frozen=True)
class Replicated:
    """The statistics of every replication, {run: reason} of those that failed, and the digest of the file ("": none).

    Nothing at all where a folder of simulated runs has no such table: then the single runs have to do.
    """

    runs: list[RunStatistics] = field(default_factory=list)
    problem: dict[str, str] = field(default_factory=dict)
    digest: str = ""


def read_replicated(simulated: Path | None) -> Replicated:
    """Return the replications in a folder of simulated runs; a damaged table is one problem with its reason."""
    path = simulated / REPLICATIONS if simulated is not None else None
    if path is None or not path.exists():
        return Replicated()
    try:
        points, _ = load_sweep(path)
    except InputError as error:
        return Replicated(problem={REPLICATIONS: str(error).replace(f"{simulated}/", "")})
    done = [point.statistics for point in points if point.status != FAILED]
    failed = {point.run: point.reason for point in points if point.status == FAILED}
    return Replicated(done, failed, sha256_of(path))
