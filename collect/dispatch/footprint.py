"""What each dispatch allocates at its peak, counted by hand: activations and bookkeeping, int64 ids.

Sizes: S tokens, k choices each, M -> H -> O per expert, n_e rows that expert e got, X = sum n_e. While an expert runs
it holds `inner` values per row beside its input and output: H of a perceptron, 3 H of a gated one (gate and up side
by side, and the product that goes down). The counts hold where no gradient is asked for, on any device whose allocator
rounds nothing up, and where the layer is wider than some tens of values (below that, sorting the ids needs more than
the rows do). Weights and inputs are no part of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

VALUE, ID = 4, 8  # bytes; float32 where nothing else is said


@dataclass(frozen=True)
class LayerSizes:
    """Tokens S, experts E, choices per token k, the widths M, H, O of the experts, and bytes of a value.

    `inner_per_hidden`: how many times H values a row of a running expert holds at once.
    """

    tokens: int
    experts: int
    k: int
    width: int
    hidden: int
    outputs: int
    value: int = VALUE
    inner_per_hidden: int = 1

    @property
    def inner(self) -> int:
        """Values per row that an expert holds while it runs, beside input and output."""
        return self.inner_per_hidden * self.hidden

    @property
    def output_bytes(self) -> int:
        """The layer's output, alive when every dispatch ends."""
        return self.value * self.tokens * self.outputs


def static_peak_bytes(sizes: LayerSizes, slots: int, kept: int) -> int:
    """Return the peak of static dispatch: `slots` rows per expert, `kept` choices that found one.

    Masks S x P with P = E slots, weights P and three ids per kept choice live throughout; with them either the padded
    inputs, all outputs and one expert's hidden rows and output before it is copied, or all outputs and the result.
    """
    places = sizes.experts * slots
    throughout = sizes.value * (sizes.tokens * places + places) + 3 * ID * kept
    outputs = sizes.value * places * sizes.outputs
    experts = sizes.value * (places * sizes.width + slots * (sizes.inner + sizes.outputs))
    return throughout + outputs + max(experts, sizes.output_bytes)


def dynamic_peak_bytes(sizes: LayerSizes, load_E: Sequence[int]) -> int:
    """Return the peak of dynamic dispatch: the result, an id and a weight per choice, the busiest expert's rows."""
    one_row = sizes.value * (sizes.width + sizes.inner + sizes.outputs)
    return sizes.output_bytes + (ID + sizes.value) * sum(load_E) + max(load_E) * one_row


def gathered_peak_bytes(sizes: LayerSizes, load_E: Sequence[int]) -> int:
    """Return the peak of gathered dispatch: as dynamic, but with all rows' inputs and outputs at once.

    After the experts come outputs twice: apart and joined, then joined and weighted.
    """
    so_far_E = accumulate(load_E)
    in_experts = max(rows * sizes.outputs + own * sizes.inner for rows, own in zip(so_far_E, load_E, strict=True))
    rows = sum(load_E)
    moving = sizes.value * max(rows * sizes.width + in_experts, 2 * rows * sizes.outputs)
    return sizes.output_bytes + (ID + sizes.value) * rows + moving
