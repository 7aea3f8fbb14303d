"""The baseline of a byte language model: an n-gram of bytes with interpolated Kneser-Ney smoothing.

P_n(w|h) = max(c(hw) - D_n, 0) / c(h) + D_n * N1+(h) / c(h) * P_{n-1}(w|h'), where h' drops the first byte of h; below
the highest order a count is the number of distinct bytes that precede (Kneser and Ney 1995; Chen and Goodman 1999).
One discount per order, D_n = n1 / (n1 + 2 n2) of its counts of one and two; below order 1 all bytes are equal.
"""

from dataclasses import dataclass

import numpy as np

BYTES = 256
LARGEST_ORDER = 7  # n-grams are packed into 64 bits


@dataclass(frozen=True)
class Order:
    """The counts of one order, n-grams packed big-endian and ascending; contexts with their sums and followers."""

    grams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    sums: np.ndarray
    followers: np.ndarray
    discount: float


class NGram:
    """An n-gram model of `order` bytes, the last of them predicted, trained on bytes [N] (uint8)."""

    def __init__(self, text_B: np.ndarray, order: int = 5) -> None:
        if not 1 <= order <= LARGEST_ORDER or len(text_B) < order:
            raise ValueError(f"order {order} with {len(text_B)} bytes, allowed 1..{LARGEST_ORDER} and as many bytes")
        grams, counts = np.unique(packed(text_B, order), return_counts=True)
        self.orders = [order_of(grams, counts)]
        for length in range(order - 1, 0, -1):  # a count is the number of distinct bytes in front
            grams, counts = np.unique(grams & np.uint64((1 << 8 * length) - 1), return_counts=True)
            self.orders.insert(0, order_of(grams, counts))

    def probability(self, text_B: np.ndarray) -> np.ndarray:
        """Return P of each byte given those before it, float64 [N]; near the start of fewer of them."""
        likely_B = np.full(len(text_B), 1.0 / BYTES)
        for length, order in enumerate(self.orders, 1):
            likely_B[length - 1 :] = interpolated(order, packed(text_B, length), likely_B[length - 1 :])
        return likely_B

    def bits_per_byte(self, text_B: np.ndarray) -> float:
        """Return the mean of -log2 P over a text."""
        return float(-np.log2(self.probability(text_B)).mean())


def packed(text_B: np.ndarray, length: int) -> np.ndarray:
    """Return every run of `length` bytes as one number, uint64 [N - length + 1]."""
    windows = np.lib.stride_tricks.sliding_window_view(text_B, length)
    numbers = np.zeros(len(windows), np.uint64)
    for column in windows.T:
        numbers = (numbers << np.uint64(8)) | column
    return numbers


def order_of(grams: np.ndarray, counts: np.ndarray) -> Order:
    """Return one order's tables from its distinct n-grams, ascending, and their counts."""
    contexts, first, followers = np.unique(grams >> np.uint64(8), return_index=True, return_counts=True)
    ones, twos = (counts == 1).sum(), (counts == 2).sum()
    discount = ones / (ones + 2 * twos) if ones else 0.5  # no count of one: any discount within (0, 1) will do
    return Order(grams, counts, contexts, np.add.reduceat(counts, first), followers, float(discount))


def interpolated(order: Order, grams: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Return P of each n-gram's last byte from this order's counts and `lower`, P by the order below.

    After a context that was never seen, P is the lower order's.
    """
    count = looked_up(order.grams, order.counts, grams)
    context = grams >> np.uint64(8)
    total = looked_up(order.contexts, order.sums, context)
    followers = looked_up(order.contexts, order.followers, context)
    seen = np.maximum(total, 1)
    own = np.maximum(count - order.discount, 0) / seen + order.discount * followers / seen * lower
    return np.where(total > 0, own, lower)


def looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the value of every wanted key, 0 where it is absent; `keys` ascend."""
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
