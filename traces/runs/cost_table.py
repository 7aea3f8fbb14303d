"""Cost tables: how long a batch of n tokens takes in each kind of block, with every repetition kept."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import read_table, write_table

COST_COLUMNS = {
    "layer": np.int16,
    "block": np.int16,  # 0 dense, 1+e expert e; with layer -1: 0 any layer's dense, -1 an expert's way over a link
    "tokens": np.int32,  # tokens of the batch
    "repetition": np.int32,
    "service_ns": np.int64,
}
TRANSFER = (-1, -1)  # layer and block of a transfer, whose batch has one token
ANY_LAYER = (-1, 0)  # layer and block of a dense block that serves every layer which has none of its own


@dataclass(frozen=True)
class CostTable:
    """Measured service times. `columns` maps the names above to equally long arrays.

    The experts of one model have equal shapes, so the curve of "an expert" is the mean over all experts that were
    measured in turn; the dense blocks differ between layers (the first embeds, the last is the head), so each has
    its own, or that of any layer (layer -1), which serves models of any number of layers. The header holds `device`,
    `model`, and `provenance`; where transfers were measured `link` says over which link: its latency and bandwidth,
    and the bytes of an expert. `curves` remembers what `curve` worked out.
    """

    columns: dict[str, np.ndarray]
    header: dict
    curves: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if {name: array.dtype for name, array in self.columns.items()} != COST_COLUMNS:
            raise InputError(f"costs: columns are {', '.join(self.columns)}; allowed: {', '.join(COST_COLUMNS)}")
        if len(self.columns["tokens"]) == 0 or self.columns["tokens"].min() < 1 or self.columns["service_ns"].min() < 0:
            raise InputError("costs: needs at least one row, tokens >= 1 and service_ns >= 0")

    @cached_property
    def dense_layers(self) -> list[int]:
        """The layers whose own dense block was measured, ascending; empty for a model without a dense part."""
        return sorted(set(self.columns["layer"][self.columns["block"] == 0].tolist()) - {ANY_LAYER[0]})

    @cached_property
    def serves_any_layer(self) -> bool:
        """Whether there is a dense block for layers that have none of their own."""
        return bool(((self.columns["block"] == 0) & (self.columns["layer"] == ANY_LAYER[0])).any())

    def dense_of(self, layers: int) -> list[int]:
        """Return which of the layers 0..L of a model of L layers have a dense block here, their own or any layer's."""
        return list(range(layers + 1)) if self.serves_any_layer else self.dense_layers

    def dense_layer(self, layer: int) -> int:
        """Return the layer whose dense block serves this one: itself, or -1 where it has none of its own."""
        return ANY_LAYER[0] if self.serves_any_layer and layer not in self.dense_layers else layer

    def repetitions(self, layer: int, block: int) -> dict[int, np.ndarray]:
        """Return {tokens: service_ns of every repetition} of a dense block (block 0) or of the pooled experts."""
        layers, blocks = self.columns["layer"], self.columns["block"]
        chosen = (blocks == 0) & (layers == self.dense_layer(layer)) if block == 0 else blocks > 0
        if not chosen.any():
            raise InputError(f"costs: nothing was measured for layer {layer}, block {block}")
        tokens, service_ns = self.columns["tokens"][chosen], self.columns["service_ns"][chosen]
        return {int(n): service_ns[tokens == n] for n in np.unique(tokens)}

    def curve(self, layer: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (tokens, mean service_ns) of a block, ascending in tokens."""
        key = (self.dense_layer(layer), 0) if block == 0 else TRANSFER  # experts share one
        if key not in self.curves:
            measured = self.repetitions(layer, block)
            self.curves[key] = np.array(list(measured)), np.array([times.mean() for times in measured.values()])
        return self.curves[key]

    def service_ns(self, layer: int, block: int, tokens: int) -> float:
        """Return the mean service time of a batch, piecewise linear between measured sizes.

        InputError for a size outside the measured range: a cost table is never extrapolated.
        """
        measured, mean_ns = self.curve(layer, block)
        below, above, weight = neighbours(measured, tokens, layer, block)
        return float((1 - weight) * mean_ns[below] + weight * mean_ns[above])

    def capacity_per_s(self, k: int, layers: int, batch: int) -> float:
        """Return the passes of one token that one device completes per second if every batch holds `batch`.

        InputError if no batch of that size lies within what was measured.
        """
        experts_ns = self.service_ns(0, 1, batch) / batch * k * layers
        dense_ns = sum(self.service_ns(layer, 0, batch) / batch for layer in self.dense_of(layers))
        if not experts_ns + dense_ns:
            raise InputError("costs: batches that take 0 ns have no capacity to take a share of")
        return 1e9 / (experts_ns + dense_ns)

    def transfer_ns(self, link: dict) -> int | None:
        """Return the mean time of one transfer over this link; None where another or none was measured."""
        if self.header.get("link") != link:
            return None
        return round(float(self.columns["service_ns"][self.columns["block"] == TRANSFER[1]].mean()))

    def save(self, path: Path | str) -> None:
        """Write the table as Parquet."""
        write_table(path, self.columns, self.header, "costs")


def neighbours(measured: np.ndarray, tokens: int, layer: int, block: int) -> tuple[int, int, float]:
    """Return (index of the measured size at or below `tokens`, index at or above it, weight of the second).

    `measured` ascends. InputError naming the size and the measured range if it lies outside.
    """
    if not measured[0] <= tokens <= measured[-1]:
        place = "an expert" if block else f"dense block {layer}"
        raise InputError(
            f"costs: a batch of {tokens} tokens in {place} was not measured; allowed: {measured[0]}..{measured[-1]}"
            " (costs are never extrapolated)"
        )
    above = int(np.searchsorted(measured, tokens))
    if measured[above] == tokens:
        return above, above, 0.0
    below = above - 1
    return below, above, float((tokens - measured[below]) / (measured[above] - measured[below]))


def load_costs(path: Path | str) -> CostTable:
    """Return the cost table in a file; InputError if it is not one."""
    columns, header = read_table(path, "costs")
    return CostTable(columns, header)
