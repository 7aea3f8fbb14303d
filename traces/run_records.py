"""Records of one run, executed or simulated alike: one row per pass, one row per batch.

They live here because both `collect` (executions) and `simulate` write them and `analysis` reads them.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from traces.errors import InputError
from traces.parquet import column_digest, read_table, write_table

PASS_COLUMNS = {
    "pass_id": np.int32,  # index in the workload, in order of arrival where that is known beforehand
    "sequence": np.int32,  # the trace's sequence
    "step": np.int32,  # the trace's step
    "tokens": np.int32,
    "arrival_ns": np.int64,  # since the start of the run
    "start_ns": np.int64,  # its first batch began
    "end_ns": np.int64,  # its last batch ended
}
BATCH_COLUMNS = {
    "device": np.int16,
    "layer": np.int16,  # index of the MoE layer; L = what follows the last one
    "block": np.int16,  # 0 dense, 1+e expert e
    "size": np.int32,  # members: selections of an expert, passes of a dense block
    "tokens": np.int32,  # what the batch costs by
    "ready_ns": np.int64,  # its queue joined the ready list
    "start_ns": np.int64,  # members were bound
    "end_ns": np.int64,
    "forced": np.bool_,  # by the stall rule
    "hit": np.int8,  # 1 the expert was resident, 0 it was not, -1 no cache was simulated
    "members_crc": np.uint16,  # of the members, in queue order: tells runs whose batches have other members apart
}


@dataclass(frozen=True)
class RunRecords:
    """The two record tables of one run, and a header that says what ran.

    `passes` and `batches` map the column names above to arrays. Batches stand in the order in which they started.
    The header holds `source` (`executed` or `simulated`), `config` (a RunConfig as a dictionary), `device`,
    digests of the trace and the cost table, and `provenance`.
    Raises InputError if a column is missing, of another type, or if times run backwards.
    """

    passes: dict[str, np.ndarray]
    batches: dict[str, np.ndarray]
    header: dict

    def __post_init__(self) -> None:
        for kind, columns, allowed in (
            ("passes", self.passes, PASS_COLUMNS), ("batches", self.batches, BATCH_COLUMNS),
        ):  # fmt: skip
            if list(columns) != list(allowed):
                raise InputError(f"{kind}: columns are {', '.join(columns)}; allowed: {', '.join(allowed)}")
            for name, dtype in allowed.items():
                if columns[name].dtype != dtype or columns[name].shape != columns[next(iter(allowed))].shape:
                    raise InputError(f"{kind}: column {name} is {columns[name].dtype}{columns[name].shape}")
        for kind, columns, first in (("passes", self.passes, "arrival_ns"), ("batches", self.batches, "ready_ns")):
            late = (columns[first] > columns["start_ns"]) | (columns["start_ns"] > columns["end_ns"])
            if late.any():
                raise InputError(f"{kind}: row {int(late.argmax())}: times run backwards ({int(late.sum())} such rows)")

    def save(self, folder: Path | str, name: str) -> None:
        """Write `NAME.passes.parquet` and then `NAME.batches.parquet`; a run is complete once both are there."""
        write_table(Path(folder) / f"{name}.passes.parquet", self.passes, self.header, "passes")
        # The batches name the passes they belong to: a run that is written again and cut off between the two files
        # would otherwise be read as a mixture of both times.
        header = {**self.header, "passes_end_digest": column_digest(self.passes["end_ns"])}
        write_table(Path(folder) / f"{name}.batches.parquet", self.batches, header, "batches", ("members_crc",))


def load_run(folder: Path | str, name: str) -> RunRecords:
    """Return the run that `RunRecords.save` wrote; InputError if a file is missing, damaged or of another run."""
    passes, header = read_table(Path(folder) / f"{name}.passes.parquet", "passes")
    batches, other = read_table(Path(folder) / f"{name}.batches.parquet", "batches")
    if header.get("config") != other.get("config"):
        raise InputError(f"{Path(folder) / name}: passes and batches come from different configurations")
    ends = header["column_digests"].get("end_ns")
    if other.get("passes_end_digest", ends) != ends:
        raise InputError(f"{Path(folder) / name}: passes and batches come from different executions")
    table_keys = ("kind", "column_digests", "header_digest")
    try:
        return RunRecords(passes, batches, {key: value for key, value in header.items() if key not in table_keys})
    except InputError as error:
        raise InputError(f"{Path(folder) / name}: {error}") from None


def run_names(folder: Path | str) -> list[str]:
    """Return the names of the complete runs in a folder, sorted; InputError if there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of run records")
    found = (path.name.removesuffix(".batches.parquet") for path in folder.glob("*.batches.parquet"))
    return sorted(name for name in found if (folder / f"{name}.passes.parquet").exists())


def members_crc(members: list[int] | np.ndarray) -> int:
    """Return the low 16 bits of the CRC-32 of a batch's members (pass or token numbers, in queue order).

    Half of the checksum, since it is the one column that no compression shrinks, and a run has thousands of them.
    """
    return zlib.crc32(np.asarray(members, dtype=np.int64).tobytes()) & 0xFFFF
