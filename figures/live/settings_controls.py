"""The sliders of the first screen, and the configuration that they say."""

from __future__ import annotations

from collections.abc import Callable

from bokeh.layouts import column
from bokeh.models import CategoricalSlider, Column, Select, Slider, Widget

from moe_replay.figures.live.choice import CLOSED, LOCKSTEP, POISSON, QUEUES, RECORDED, Choice
from moe_replay.figures.live.page_style import CONTROLS_WIDTH, ladder, whenever
from moe_replay.simulate.answers.trace_facts import TraceFacts
from moe_replay.simulate.policies.caches.cache_names import MODULES as CACHES
from moe_replay.simulate.policies.prefetchers.prefetcher_names import MODULES as PREFETCHERS
from moe_replay.simulate.sweeps.axes import RESIDENT

MOST_BATCH, MOST_DEVICES = 256, 16
MOST_IN_FLIGHT = 1024
FIRST_IN_FLIGHT = 64
ROUNDS = 8  # as many times its sequences in flight a trace needs about, for a window without its start and end
RATES = 60  # steps of the slider of arrival rates
BEYOND = 1.2  # its end, over the capacity with full batches
MASKED = ("redirect", "skip")
MASKING = "importance"  # a cache that means something with masked gating alone
ARRIVALS = (
    (CLOSED, "closed loop: one enters as one ends"), (POISSON, "Poisson: so many per second"),
    (RECORDED, "recorded: when the trace says"),
)  # fmt: skip
WIDE = {"width": CONTROLS_WIDTH}


class SettingsControls:
    """Sliders and menus; `moved` is called while one moves, `released` when one is let go or a menu is used."""

    def __init__(self, facts: TraceFacts, moved: Callable[[], None], released: Callable[[], None]) -> None:
        self.facts = facts
        self.scheduler = Select(
            title="Scheduler", value=QUEUES, **WIDE,
            options=[(QUEUES, "queues: experts run B at a time"), (LOCKSTEP, "lockstep: layer by layer")],
        )  # fmt: skip
        self.queue_size = slider_of("Queue size B", ladder(1, MOST_BATCH), 8)
        self.arrivals = Select(
            title="Arrivals", value=CLOSED, **WIDE,
            options=[each for each in ARRIVALS if facts.recorded or each[0] != RECORDED],
        )  # fmt: skip
        begun = min(FIRST_IN_FLIGHT, facts.sequences // ROUNDS)
        self.in_flight = slider_of("Sequences in flight", ladder(1, min(MOST_IN_FLIGHT, facts.sequences)), begun)
        self.rate = rate_slider(facts)
        self.k = Slider(
            title="Experts per token k", start=min(facts.ks), end=max(facts.ks), step=1, value=facts.used_k,
            disabled=len(facts.ks) < 2, **WIDE,
        )  # fmt: skip
        kinds = [RESIDENT, *(name for name in CACHES if name not in ("none", MASKING))]
        self.cache = Select(title="Expert cache", value=RESIDENT, options=kinds, **WIDE)
        slots = max(1, facts.experts // 2)
        self.slots = Slider(title="Expert slots per layer", start=1, end=facts.experts, step=1, value=slots, **WIDE)
        self.miss = Select(title="On a miss", value="load", options=self.handlings, **WIDE)
        self.prefetch = Select(title="Prefetch", value="none", options=list(PREFETCHERS), **WIDE)
        self.devices = Slider(
            title="Devices (communication is not modelled)", start=1, end=min(MOST_DEVICES, facts.experts), step=1,
            value=1, **WIDE,
        )  # fmt: skip
        self.show_used()
        for each in self.sliders:
            whenever(each, "value", moved)
            whenever(each, "value_throttled", released)
        for each in self.menus:
            whenever(each, "value", self.show_used)
            whenever(each, "value", released)

    @property
    def handlings(self) -> list[str]:
        """What a miss may do: what changes which experts run needs scores in the trace."""
        return ["load", "block", "host", *(MASKED if self.facts.masked else ())]

    @property
    def sliders(self) -> list[Widget]:
        """What is dragged."""
        return [self.queue_size, self.in_flight, self.rate, self.k, self.slots, self.devices]

    @property
    def menus(self) -> list[Widget]:
        """What is chosen from a list."""
        return [self.scheduler, self.arrivals, self.cache, self.miss, self.prefetch]

    def show_used(self) -> None:
        """Show what means something beside the rest, and hide the others."""
        self.queue_size.visible = self.scheduler.value == QUEUES
        self.in_flight.visible = self.arrivals.value == CLOSED
        self.rate.visible = self.arrivals.value == POISSON
        for each in (self.slots, self.miss, self.prefetch):
            each.visible = self.cache.value != RESIDENT

    @property
    def choice(self) -> Choice:
        """What the sliders say; what means nothing is left at its default, so that equal runs are one."""
        given: dict = {"scheduler": self.scheduler.value, "arrivals": self.arrivals.value}
        if self.scheduler.value == QUEUES:
            given["queue_size"] = int(self.queue_size.value)
        if self.arrivals.value == CLOSED:
            given["in_flight"] = int(self.in_flight.value)
        if self.arrivals.value == POISSON:
            given["rate_per_s"] = float(self.rate.value)
        if self.cache.value != RESIDENT:
            given |= {"cache": self.cache.value, "slots": int(self.slots.value), "miss": self.miss.value}
            given["prefetch"] = self.prefetch.value
        k = int(self.k.value)
        return Choice(**given, k=None if k == self.facts.used_k else k, devices=int(self.devices.value))

    def set(self, choice: Choice) -> None:
        """Put the sliders where a configuration says."""
        self.scheduler.value, self.arrivals.value, self.cache.value = choice.scheduler, choice.arrivals, choice.cache
        self.queue_size.value, self.in_flight.value = str(choice.queue_size), str(choice.in_flight)
        self.k.value, self.devices.value = choice.k or self.facts.used_k, choice.devices
        if choice.arrivals == POISSON:
            self.rate.value = choice.rate_per_s
        if choice.cache != RESIDENT:
            self.slots.value, self.miss.value, self.prefetch.value = choice.slots, choice.miss, choice.prefetch

    @property
    def layout(self) -> Column:
        """All of them, one below the other."""
        return column(
            self.scheduler, self.queue_size, self.arrivals, self.in_flight, self.rate, self.k, self.cache, self.slots,
            self.miss, self.prefetch, self.devices, width=CONTROLS_WIDTH,
        )  # fmt: skip


def slider_of(title: str, steps: list[int], value: int) -> CategoricalSlider:
    """Return a slider over steps that are not evenly spaced; it begins at the step nearest to a value."""
    nearest = min(steps, key=lambda step: abs(step - value))
    categories = [str(step) for step in steps]
    if len(categories) == 1:  # a slider needs two ends
        return CategoricalSlider(title=title, categories=categories * 2, value=categories[0], disabled=True, **WIDE)
    return CategoricalSlider(title=title, categories=categories, value=str(nearest), **WIDE)


def rate_slider(facts: TraceFacts) -> Slider:
    """Return the slider of arrival rates, up to a little more than full batches could serve."""
    capacity = facts.capacity_per_s or 1.0
    step = float(f"{BEYOND * capacity / RATES:.2g}")
    return Slider(
        title="Sequences per second", start=step, end=step * RATES, step=step, value=step * (RATES // 4), **WIDE,
        disabled=facts.capacity_per_s is None,
    )  # fmt: skip
