"""What the pass did to the graphs that inductor compiled: peaks before and after, bounds, and who found the order."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class OrderedGraph:
    """What the pass did to one graph that inductor compiled.

    `estimate_before`, `estimate_after`: peak bytes by inductor's own estimate, of its own order and of the one taken.
    `peak_before`, `peak_after`: peak bytes that the generated code allocates, saved activations that it was given
    included, parameters and other inputs left out; `lower_bound`: no order of these nodes has a peak below it.
    `by`: which search found the order, or `inductor` where its own was kept. `seconds`: what the search took.
    """

    name: str
    operations: int
    estimate_before: int
    estimate_after: int
    peak_before: int
    peak_after: int
    lower_bound: int
    by: str
    seconds: float

    @property
    def proved(self) -> bool:
        """Whether no order of these nodes has a lower peak."""
        return self.peak_after == self.lower_bound

    def __str__(self) -> str:
        gain = 1 - self.peak_after / self.peak_before if self.peak_before else 0
        proof = "proved" if self.proved else f"bound {self.lower_bound / 1e6:.2f}"
        return (
            f"{self.name}: {self.operations} operations, peak {self.peak_before / 1e6:.2f} -> "
            f"{self.peak_after / 1e6:.2f} MB (-{gain:.1%}, {proof}), by {self.by} in {self.seconds:.1f} s"
        )


@dataclass
class Report:
    """One entry per graph that was compiled within the context, in that order (`print(report)` shows them)."""

    graphs: list[OrderedGraph] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(map(str, self.graphs)) or "no graph was compiled"
