"""Reads every run of a set once: its executed and its simulated records, their statistics, and where they part."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moe_replay.analysis.reading.log_sets import LogSet
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_records import RunRecords, load_run
from moe_replay.traces.runs.run_statistics import RunStatistics, run_statistics
from moe_replay.traces.runs.run_window import is_open

ORDER_COLUMNS = ("layer", "block", "size", "members_crc")


@dataclass(frozen=True)
class RunPair:
    """One run name: what was executed and what was simulated under it.

    `statistics` and `problem` map `executed` and `simulated` to the run's statistics and, where there are none, to
    the reason. `identical` is `yes`, `no` or `n.a.` and says whether the same batches ran in the same order.
    `digests` maps file names to SHA-256. `lateness_ns` and `own_share` are what the executor recorded of itself, or
    empty.
    """

    name: str
    statistics: dict[str, RunStatistics]
    problem: dict[str, str]
    identical: str = "n.a."
    first_difference: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    lateness_ns: dict = field(default_factory=dict)
    own_share: dict = field(default_factory=dict)


def read_pairs(log_set: LogSet) -> list[RunPair]:
    """Return every run of a set, in order of name."""
    return [read_pair(name, log_set.executed, log_set.simulated) for name in log_set.run_names()]


def read_pair(name: str, executed: Path, simulated: Path | None) -> RunPair:
    """Return one run; a file that cannot be read is a problem with a reason, never an exception."""
    records: dict[str, RunRecords] = {}
    statistics: dict[str, RunStatistics] = {}
    problem: dict[str, str] = {}
    digests: dict[str, str] = {}
    for source, folder in (("executed", executed), ("simulated", simulated)):
        try:
            found = present_files(folder, name)
            if found:
                records[source] = load_run(folder, name)
                check_source(records[source], source)
                statistics[source] = run_statistics(records[source])
                digests |= {f"{source}/{path.name}": sha256_of(path) for path in found}
        except InputError as error:
            # The folder is the machine's business; the file and the fault are the reader's.
            problem[source] = str(error).replace(f"{folder}/", "")
    identical, first_difference = compared(records)
    header = records["executed"].header if "executed" in records else {}
    of_itself = header.get("lateness_ns", {}), header.get("own_share", {})
    return RunPair(name, statistics, problem, identical, first_difference, digests, *of_itself)


def present_files(folder: Path | None, name: str) -> list[Path]:
    """Return the record files of a run that are there."""
    paths = [folder / f"{name}.{kind}.parquet" for kind in ("passes", "batches")] if folder else []
    return [path for path in paths if path.exists()]


def check_source(records: RunRecords, source: str) -> None:
    """Refuse records in the wrong folder: a simulation is no evidence for itself."""
    found = records.header.get("source")
    if found != source:
        raise InputError(f"the records say they were {found}, expected {source}")


def order_is_fixed(config: dict) -> bool:
    """Return whether the order of batches is free of durations: one device, no time-out, arrivals that wait.

    Of a scheduler of the user's own it is not known.
    """
    known = config["scheduler"] in ("queues", "lockstep") and not is_open(config)
    return known and config["devices"] == 1 and config["timeout_ns"] is None


def compared(records: dict[str, RunRecords]) -> tuple[str, str]:
    """Return (`identical`, first difference) of an executed and a simulated run."""
    if len(records) < 2 or not order_is_fixed(records["executed"].header["config"]):
        return "n.a.", ""
    executed, simulated = records["executed"], records["simulated"]
    for kind in ("config", "trace_digest"):
        if executed.header.get(kind) != simulated.header.get(kind):
            return "no", f"{kind} differs: these are not the same run"
    difference = first_difference(executed.batches, simulated.batches)
    return ("no", difference) if difference else ("yes", "")


def first_difference(executed: dict[str, np.ndarray], simulated: dict[str, np.ndarray]) -> str:
    """Return where two sequences of batches part, in words; empty where they are equal, row by row."""
    rows = min(len(executed["layer"]), len(simulated["layer"]))
    differs = np.zeros(rows, dtype=bool)
    for column in ORDER_COLUMNS:
        differs |= executed[column][:rows] != simulated[column][:rows]
    if differs.any():
        row = int(differs.argmax())
        return f"batch {row}: executed {batch_text(executed, row)}, simulated {batch_text(simulated, row)}"
    if len(executed["layer"]) != len(simulated["layer"]):
        return f"executed {len(executed['layer'])} batches, simulated {len(simulated['layer'])}"
    return ""


def batch_text(batches: dict[str, np.ndarray], row: int) -> str:
    """Return one batch in words."""
    layer, block, size, crc = (int(batches[column][row]) for column in ORDER_COLUMNS)
    return f"(layer {layer}, block {block}, size {size}, members {crc:08x})"
