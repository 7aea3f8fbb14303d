"""Records of one run, executed or simulated alike: a row per pass, per batch, per transfer of an expert, per message.

They live here because both `collect` (executions) and `simulate` write them and `analysis` reads them.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.outputs import WAY_OUT
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import LEVEL, SMALLEST, column_digest, read_table, write_table

PASS_COLUMNS = {
    "pass_id": np.int32,  # index in the workload, in order of arrival where that is known beforehand
    "sequence": np.int32,  # the trace's sequence
    "step": np.int32,  # the trace's step
    "tokens": np.int32,
    "arrival_ns": np.int64,  # since the start of the run
    "start_ns": np.int64,  # its first batch began
    "end_ns": np.int64,  # its last batch ended
}
# Where the trace tells prompts from decoding: 0 some token of a prompt is among its tokens, 1 all are decoded.
PHASED_PASS_COLUMNS = PASS_COLUMNS | {"phase": np.int8}
PASS_ORDERS = {"step": "sequence"}  # a sequence has the same step each time
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
LINKED_BATCH_COLUMNS = BATCH_COLUMNS | {"micro_batch": np.int16}  # block: 1+p is slot p; the part of a step
MESSAGE_COLUMNS = {
    "micro_batch": np.int16,
    "layer": np.int16,
    "kind": np.int8,  # 0 dispatch: tokens on their way to experts, 1 combine: results on their way back
    "source": np.int16,  # devices
    "destination": np.int16,
    "tokens": np.int32,  # copies
    "bytes": np.int64,
    "queued_ns": np.int64,  # it was made
    "start_ns": np.int64,  # on the port out
    "end_ns": np.int64,  # all of it was there
}
TRANSFER_COLUMNS = {
    "link": np.int16,  # of the device with this number
    "layer": np.int16,
    "expert": np.int16,
    "slot": np.int16,  # within the cache of the layer, or of all; the number of slots: where declined experts pass
    "victim": np.int32,  # layer * E + expert that left the slot, -1 none
    "prefetch": np.bool_,
    "asked_ns": np.int64,  # the slot was given
    "start_ns": np.int64,  # the link began
    "end_ns": np.int64,
}


OF_HEADER = {
    "config": "configuration", "trace_digest": "trace", "costs_digest": "cost table",
    "known": "kind of knowledge", "known_digest": "trace that caches know from",
    "own_rules": "version of a rule of your own",
}  # fmt: skip


@dataclass(frozen=True)
class RunRecords:
    """The record tables of one run, and a header that says what ran.

    `passes`, `batches` and `transfers` map the column names above to arrays. Batches are in the order in which they
    started, transfers in the order in which they were asked for; None where all experts were resident. `messages` are
    what linked devices sent each other, in the order in which they were made; None where that is not modelled.
    The header holds `source` (`executed` or `simulated`), `config` (a RunConfig as a dictionary), `device`,
    digests of the trace and the cost table, and `provenance`.
    Raises InputError if a column is missing, of another type, or if times run backwards.
    """

    passes: dict[str, np.ndarray]
    batches: dict[str, np.ndarray]
    header: dict
    transfers: dict[str, np.ndarray] | None = None
    messages: dict[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        of_batches = BATCH_COLUMNS if self.messages is None else LINKED_BATCH_COLUMNS
        of_passes = PHASED_PASS_COLUMNS if "phase" in self.passes else PASS_COLUMNS
        tables = [("passes", self.passes, of_passes), ("batches", self.batches, of_batches)]
        if self.messages is not None:
            tables.append(("messages", self.messages, MESSAGE_COLUMNS))
        if self.transfers is not None:
            tables.append(("transfers", self.transfers, TRANSFER_COLUMNS))
        for kind, columns, allowed in tables:
            if list(columns) != list(allowed):
                raise InputError(f"{kind}: columns are {', '.join(columns)}; allowed: {', '.join(allowed)}")
            for name, dtype in allowed.items():
                if columns[name].dtype != dtype or columns[name].shape != columns[next(iter(allowed))].shape:
                    raise InputError(f"{kind}: column {name} is {columns[name].dtype}{columns[name].shape}")
        first_of = {"passes": "arrival_ns", "batches": "ready_ns", "transfers": "asked_ns", "messages": "queued_ns"}
        for kind, columns, _ in tables:
            first = first_of[kind]
            late = (columns[first] > columns["start_ns"]) | (columns["start_ns"] > columns["end_ns"])
            if late.any():
                raise InputError(f"{kind}: row {int(late.argmax())}: times run backwards ({int(late.sum())} such rows)")

    def __repr__(self) -> str:
        moved = "" if self.transfers is None else f", {len(self.transfers['link']):,} transfers"
        moved += "" if self.messages is None else f", {len(self.messages['end_ns']):,} messages"
        return f"RunRecords({len(self.passes['end_ns']):,} passes, {len(self.batches['end_ns']):,} batches{moved})"

    def save(self, folder: Path | str, name: str, compact: bool = False) -> None:
        """Write `NAME.passes.parquet`, `.transfers.` and `.messages.` if there are any, last `.batches.`.

        The last makes it complete. The files hold the columns as they are, or, `compact`, those of batches and
        transfers in the forms of `traces.file.stored_forms`: half the size.
        """
        path = Path(folder) / name
        level, orders = (SMALLEST, PASS_ORDERS) if compact else (LEVEL, {})
        write_table(f"{path}.passes.parquet", self.passes, self.header, "passes", orders=orders, level=level)
        timed = {"relative_times": compact, "level": level}
        if self.transfers is not None:
            write_table(f"{path}.transfers.parquet", self.transfers, self.header, "transfers", **timed)
        if self.messages is not None:
            write_table(f"{path}.messages.parquet", self.messages, self.header, "messages", level=level)
        # The batches name the passes they belong to: a run that is written again and cut off between the two files
        # would otherwise be read as a mixture of both times.
        header = {**self.header, "passes_end_digest": column_digest(self.passes["end_ns"])}
        write_table(f"{path}.batches.parquet", self.batches, header, "batches", **timed)


def typed_passes(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns of a table of passes in its order and types, `phase` among them where it is given."""
    kinds = PHASED_PASS_COLUMNS if "phase" in columns else PASS_COLUMNS
    return {name: np.ascontiguousarray(columns[name], dtype) for name, dtype in kinds.items()}


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
        kept = {key: value for key, value in header.items() if key not in table_keys}
        moved = (
            load_moved(folder, name, header, "transfers", "memory"),
            load_moved(folder, name, header, "messages", "cluster"),
        )
        return RunRecords(passes, batches, kept, *moved)
    except InputError as error:
        raise InputError(f"{Path(folder) / name}: {error}") from None


def load_moved(folder: Path | str, name: str, header: dict, kind: str, part: str) -> dict[str, np.ndarray] | None:
    """Return a run's transfers or messages, None where its configuration has no such part."""
    if part not in (header.get("config") or {}):
        return None
    moved, other = read_table(Path(folder) / f"{name}.{kind}.parquet", kind)
    if other.get("config") != header["config"]:
        raise InputError(f"{Path(folder) / name}: passes and {kind} come from different configurations")
    return moved


def holds_run(folder: Path | str, name: str, wanted: dict, force: bool = False) -> bool:
    """Say whether a folder holds a run under this name whose header says what `wanted` does, whole.

    False where there is nothing, or what a writing that was cut off has left of this very run. InputError where it is
    another run or was damaged, unless `force` lets it be replaced: then False.
    """
    paths = [Path(folder) / f"{name}.{kind}.parquet" for kind in ("passes", "batches", "transfers", "messages")]
    if not any(path.exists() for path in paths):
        return False
    try:
        whole = paths[1].exists()
        header = load_run(folder, name).header if whole else read_table(paths[0], "passes")[1]
        differing = [OF_HEADER.get(key, key) for key, value in wanted.items() if header.get(key) != value]
        reason = f"holds a run of another {' and '.join(differing)}" if differing else ""
    except InputError as error:
        reason = f"holds no whole run ({error})"
    if reason and not force:
        raise InputError(f"{Path(folder) / name}: {reason}; {WAY_OUT}")
    return whole and not reason


def run_identity(header: dict) -> dict:
    """Return the part of a header that says which run it is, not when and by whom it was made."""
    return {key: header[key] for key in OF_HEADER if key in header}


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
