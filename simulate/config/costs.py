"""Costs: functions (layer, block, tokens) -> service_ns, whole ns, rounded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.traces.command_line.number_limits import whole_ns
from moe_replay.traces.command_line.units import duration_in
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import column_digest, header_digest
from moe_replay.traces.runs.cost_table import CostTable, load_costs, neighbours

Cost = Callable[[int, int, int], int]
EXPERTS = -2  # the number of the experts' curve, below those of layers


def checked_ns(service_ns: object, layer: int, block: int, tokens: int) -> int:
    """Return what a cost gave for a batch as an int; InputError unless it is a whole number of ns, 0 or more."""
    if not isinstance(service_ns, int | np.integer) or isinstance(service_ns, bool) or service_ns < 0:
        place = f"cost of {tokens} tokens in layer {layer}, block {block}"
        raise InputError(f"{place} is {service_ns!r} ns, allowed whole numbers >= 0")
    return int(service_ns)


class MeanCosts:
    """The mean curve of a cost table, piecewise linear, each value worked out once.

    InputError for a block or a size that was not measured: nothing is extrapolated, neither up nor down.
    """

    def __init__(self, table: CostTable) -> None:
        self.table = table
        self.known: dict[tuple[int, int, int], int] = {}

    def curve(self, layer: int, block: int) -> int:
        """Return a number that blocks of equal costs share: experts one, dense blocks their own or any layer's."""
        return EXPERTS if block else self.table.dense_layer(layer)

    def __call__(self, layer: int, block: int, tokens: int) -> int:
        """Return the service time of a batch of `tokens` in a block."""
        key = (layer, block, tokens)
        service_ns = self.known.get(key)
        if service_ns is None:
            service_ns = self.known[key] = round(self.table.service_ns(layer, block, tokens))
        return service_ns


class ResampledCosts:
    """A measured repetition, drawn anew for every batch, so that service times vary as they were seen to.

    At a measured size any of its repetitions is drawn. Between two measured sizes *one* uniform number picks the same
    quantile of the repetitions at both, and the two are interpolated linearly: the mean is that of `MeanCosts` and the
    spread lies between those of the neighbours. InputError as in `MeanCosts`.
    """

    def __init__(self, table: CostTable, rng: np.random.Generator) -> None:
        self.table, self.rng = table, rng
        self.known: dict[tuple[int, int], tuple[np.ndarray, list[np.ndarray]]] = {}

    def __call__(self, layer: int, block: int, tokens: int) -> int:
        """Draw the service time of a batch of `tokens` in a block."""
        measured, times_ns = self._repetitions(layer, block)
        below, above, weight = neighbours(measured, tokens, layer, block)
        share = self.rng.random()
        drawn_ns = [times[int(share * len(times))] for times in (times_ns[below], times_ns[above])]
        return round((1 - weight) * drawn_ns[0] + weight * drawn_ns[1])

    def _repetitions(self, layer: int, block: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return (measured sizes, their repetitions in ascending order of time) of a block; experts share theirs."""
        key = (0, 1) if block else (self.table.dense_layer(layer), 0)
        if key not in self.known:
            measured = self.table.repetitions(layer, block)
            self.known[key] = np.array(list(measured)), [np.sort(times) for times in measured.values()]
        return self.known[key]


@dataclass(frozen=True)
class Affine:
    """The cost a + b n for every block, in ns."""

    fixed_ns: float
    per_token_ns: float

    def curve(self, layer: int, block: int) -> int:
        """Return the number of the one curve that all blocks share."""
        return 0

    def __call__(self, layer: int, block: int, tokens: int) -> int:
        """Return the service time of a batch of `tokens`, rounded once."""
        return round(self.fixed_ns + self.per_token_ns * tokens)


def affine(fixed_ns: float, per_token_ns: float) -> Affine:
    """Return the cost a + b n for every block; InputError for a negative part."""
    if not (fixed_ns >= 0 and per_token_ns >= 0):
        raise InputError(f"affine costs {fixed_ns}, {per_token_ns} ns; allowed: two numbers >= 0")
    for each in (fixed_ns, per_token_ns):
        whole_ns("affine costs", each, 1)
    return Affine(fixed_ns, per_token_ns)


def constant(service_ns: int) -> Cost:
    """Return the cost that is the same for every batch of every block."""
    return affine(service_ns, 0)


@dataclass(frozen=True)
class CostModel:
    """Where the costs of simulated runs come from: a measured table, or a line a + b n in ns for every block.

    `resampled` draws repetitions of the table instead of taking their means. `digest` and `device` go into the header
    of the records. InputError unless there is exactly one source.
    """

    table: CostTable | None = None
    line_ns: tuple[float, float] | None = None
    resampled: bool = False

    def __post_init__(self) -> None:
        if (self.table is None) == (self.line_ns is None):
            raise InputError("costs come either from a measured table or from an affine law: exactly one of them")
        if self.resampled and self.table is None:
            raise InputError("only measured repetitions can be resampled, not an affine law")

    def cost(self, rng: np.random.Generator) -> Cost:
        """Return the cost function of one run; `rng` draws repetitions where they are resampled."""
        if self.line_ns is not None:
            return affine(*self.line_ns)
        return ResampledCosts(self.table, rng) if self.resampled else MeanCosts(self.table)

    def transfer_ns(self, memory: MemoryConfig | None) -> int | None:
        """Return what a transfer takes by measurement; None where this link was not measured: then by its fields."""
        return self.table.transfer_ns(memory.link_fields) if self.table is not None and memory is not None else None

    def check_dense(self, layers: int) -> None:
        """Refuse a table in which a dense block of one of the layers 0..L is missing."""
        missing = sorted(set(range(layers + 1)) - set(self.table.dense_of(layers))) if self.table else []
        if missing:
            raise InputError(f"costs: dense block {missing[0]} was not measured; allowed: runs without a dense part")

    @cached_property
    def digest(self) -> str:
        """What tells these costs from others: a digest of the table's columns, or the law itself."""
        source = f"affine {self.line_ns[0]:g} {self.line_ns[1]:g} ns" if self.table is None else self._table_digest()
        return f"{source} resampled" if self.resampled else source

    def _table_digest(self) -> str:
        digests = {name: column_digest(column) for name, column in sorted(self.table.columns.items())}
        return header_digest({"columns": digests})

    @property
    def device(self) -> str:
        """The machine whose costs these are."""
        return str(self.table.header.get("device", "unknown")) if self.table else "affine costs"


def read_costs(path: Path | None, affine: str | None, resample: bool) -> CostModel:
    """Return the costs in a table or in an option's `A,B`."""
    line_ns = duration_in("ns").listed(affine, "--affine", 0) if affine else None
    if line_ns is not None and len(line_ns) != 2:
        raise InputError(f"--affine: {affine!r} is not allowed; allowed: two numbers A,B in ns")
    for each in line_ns or ():
        whole_ns("--affine", each, 1)
    return CostModel(load_costs(path) if path else None, tuple(line_ns) if line_ns else None, resample)


def table_for(path: Path | None, memory: MemoryConfig | None) -> Path | None:
    """Return the table of a run's way to keep its experts, where `path` is a folder with one for each.

    They are `resident.parquet`, `load.parquet` and `masked.parquet`: blocks do not cost the same under them.
    """
    if path is None or not path.is_dir():
        return path
    if memory is None:
        return path / "resident.parquet"
    return path / ("masked.parquet" if memory.is_masked else "load.parquet")
