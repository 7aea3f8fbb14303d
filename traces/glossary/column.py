"""One entry of the glossary, and the prefixes and suffixes that make families of columns."""

from __future__ import annotations

from dataclasses import dataclass

# Over what a value is taken.
MEASURED = "window or whole run, as `values_of` says"
WHOLE = "whole run"
TRACE = "whole trace"
HELD_OUT = "held-out images or text"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    `name` is what files call it, `title` what printed tables call it (empty: the name). `unit` is empty for texts and
    plain counts, `share` for numbers between 0 and 1. `window` says over what the value was taken, empty where that
    is no question.
    """

    name: str
    unit: str
    meaning: str
    window: str = ""
    title: str = ""


# A column may be another one with an affix; these say what each affix does to the meaning. `{}` is the rest's meaning.
SUFFIXES = {
    "_low": "lower end of the 95 % interval of: {}",
    "_high": "upper end of the 95 % interval of: {}",
    "_half_width": "half the width of the 95 % interval of: {}",
    "_least": "least over runs of one configuration of: {}",
    "_most": "largest over runs of one configuration of: {}",
    "_min": "least over seeds of: {}",
    "_max": "largest over seeds of: {}",
    "_parts": "one value per tenth of the window (batch means) of: {}",
    "_shuffled": "the same tokens in random order; {}",
    "_shuffled_spread": "range over shuffles of the same tokens in random order; {}",
}
PREFIXES = {
    "whole_": "of the whole run, whatever the status: {}",
    "memory_": "of the run's expert memory: {}",
    "executed_": "executed on real weights: {}",
    "simulated_": "simulated: {}",
    "fit_": "of what planners saw, not of what is scored: {}",
    "predicted_": "promised by the plan's models: {}",
    "static_": "static dispatch with a capacity: {}",
    "dynamic_": "dynamic dispatch, expert by expert: {}",
    "gathered_": "dynamic dispatch of all rows at once: {}",
}
