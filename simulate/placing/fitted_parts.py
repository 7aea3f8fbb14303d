"""What planners are fitted on and what their placements are scored on: `--fit`, and the mark of what was known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.simulate.placing.recorded_batches import Batches, all_batches, token_batches
from moe_replay.simulate.policies.memory.knowledge_source import HELD_OUT, HINDSIGHT, other
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.load_trace import LoadTrace, holds_loads, read_loads
from moe_replay.traces.selections import Trace

FITS = ("first-half", "first-sequences", "scored", "trace")
FIT_HELP = (
    "What planners see. first-half: of the batches, the others are scored; first-sequences: the same by sequences; "
    "scored: what is scored, in hindsight; trace: all, in hindsight; or another FILE."
)


@dataclass(frozen=True, eq=False)
class Parts:
    """The batches that planners see, those that are scored, the mark of what was known, and the same in words."""

    fitted: Batches
    scored: Batches
    known: str
    said: str


def opened(path: Path) -> Trace | LoadTrace:
    """Return what is in a file: a trace of tokens or one of loads."""
    return read_loads(path) if path.is_file() and holds_loads(path) else load_trace(path)


def parts_of(recorded: Trace | LoadTrace, fit: str, others: Sequence[Trace | LoadTrace], rows: int) -> Parts:
    """Return what is fitted and scored under a word of FITS; of any other word the one of `others` that it names.

    InputError where a trace has no such halves, or where the file is of another model.
    """
    if fit == "first-sequences":
        return of_sequences(recorded, rows)
    everything = all_batches(recorded, rows)
    batches = len(everything.profile.load_BLE)
    if fit not in FITS:
        return of_file(recorded, others[0], Path(fit).name, everything, rows)
    if fit == "trace":
        return Parts(
            everything, everything, HINDSIGHT, f"known: hindsight: fitted on all {batches} batches, scored on them"
        )
    if batches < 2:
        raise InputError(
            "one batch has no halves to fit and to score on; allowed: --fit trace or a FILE, smaller batches"
        )
    first, second = everything.some(np.arange(batches // 2)), everything.some(np.arange(batches // 2, batches))
    of = f"{batches - batches // 2} of {batches} batches"
    if fit == "scored":
        return Parts(second, second, HINDSIGHT, f"known: hindsight: fitted and scored on the last {of}")
    return Parts(
        first, second, HELD_OUT, f"known: held-out: fitted on the first {batches // 2}, scored on the last {of}"
    )


def of_sequences(recorded: Trace | LoadTrace, rows: int) -> Parts:
    """Return the halves of a trace's sequences by their numbers; of an odd number the first has one more."""
    if isinstance(recorded, LoadTrace) or recorded.S < 2:
        held = "counts without sequences" if isinstance(recorded, LoadTrace) else "one sequence"
        raise InputError(f"--fit first-sequences: {held}, allowed: a trace of at least two sequences")
    first = (recorded.S + 1) // 2
    first_T = recorded.sequence_T < recorded.sequences_S[first]
    said = f"known: held-out: fitted on the first {first} of {recorded.S} sequences, scored on the others"
    fitted, scored = (token_batches(recorded, rows, wanted_T, rest=True) for wanted_T in (first_T, ~first_T))
    return Parts(fitted, scored, HELD_OUT, said)


def of_file(recorded: Trace | LoadTrace, whole: Trace | LoadTrace, name: str, scored: Batches, rows: int) -> Parts:
    """Return another recording to fit on, and all of this one to score on."""
    mine, its = (each.model if isinstance(each, LoadTrace) else each.header.model for each in (recorded, whole))
    if (mine.layer_ids, mine.real_experts) != (its.layer_ids, its.real_experts):
        raise InputError(
            f"{name}: {its.real_experts} experts in layers {list(its.layer_ids)!s:.40}, allowed {mine.real_experts} in "
            f"{list(mine.layer_ids)!s:.40} as in the trace"
        )
    if isinstance(recorded, Trace) and isinstance(whole, Trace):
        mark, said = (lesson := other(recorded, whole, name)).mark, lesson.said
    elif type(recorded) is type(whole) and recorded.digest == whole.digest:
        mark, said = HINDSIGHT, f"known: hindsight: {name} holds the very counts that are scored"
    else:
        mark, said = HELD_OUT, f"known: held-out: fitted on {name}"
    return Parts(all_batches(whole, rows), scored, mark, said)
