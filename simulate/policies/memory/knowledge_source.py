"""Where what policies know beforehand comes from, and the mark that says so: none, held-out or hindsight.

What is learned (popularity, importance) is learned on the first half of the trace and everything is counted on the
second, unless another trace is given or hindsight is asked for by name. Optima and oracles know what comes: hindsight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.simulate.policies.halves import ALL, SECOND_HALF, halves
from moe_replay.simulate.policies.memory.expert_worth import check_sizes
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace

if TYPE_CHECKING:
    from moe_replay.simulate.config.memory_config import MemoryConfig
    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.simulate.policies.memory.memory_setup import Known
    from moe_replay.traces.selections import Trace

NONE, HELD_OUT, HINDSIGHT = ("none", "held-out", "hindsight")
LEARNED = {"popularity", "importance"}  # fields of Knowledge that a trace tells
AHEAD = {"future", "groups"}  # fields of Knowledge that tell what comes
HELP = "Trace that popularity and importance come from, or `hindsight`: TRACE itself; default: TRACE's first half."
OWN = "known: hindsight: what is learned beforehand comes from what is counted"
CHOICES = ("experts_TLK", "sequence_T", "step_T")  # with these alike two traces are one, whatever else they hold
LEAST_TELLING = 64  # selections of a sequence that do not come twice by chance


@dataclass(frozen=True)
class Lesson:
    """The trace that is learned from, the part of a trace that is `served`, and the mark of who learns from it.

    `said` is what a reader must know, empty where nothing is learned.
    """

    trace: Trace
    served: str
    mark: str
    said: str = ""

    def counted(self, trace: Trace) -> Trace:
        """Return the part of a trace that is counted."""
        return trace if self.served == ALL else trace.only(halves(trace.sequence_T, trace.step_T).second_T)

    def shared(self, configs: Iterable[RunConfig]) -> list[RunConfig]:
        """Return configurations that all serve the part that is counted, so that their numbers can be compared."""
        return [replace(config, served=self.served) for config in configs]


def file_of(known: str | None) -> Path | None:
    """Return the file that the option names, None where it names none."""
    return None if known in (None, HINDSIGHT) else Path(known)


def learns(needs: Iterable[str]) -> bool:
    """Say whether anything of what policies and prefetchers need is learned beforehand."""
    return not LEARNED.isdisjoint(needs)


def mark_of(needs: Iterable[str], learned: str) -> str:
    """Return the mark of one row or run: what it needs is known so, if `learned` is the mark of what is learned."""
    if not AHEAD.isdisjoint(needs):
        return HINDSIGHT
    return learned if learns(needs) else NONE


def known_fields(memory: MemoryConfig, known: Known | None, digest: str | None) -> dict:
    """Return what the header of a run with expert memory says of what was known, `digest` of the trace that told it."""
    learned = HINDSIGHT if known is None else known.learned
    return {"known": mark_of(memory.needs, learned), "known_digest": digest if learns(memory.needs) else None}


def lesson_again(
    trace: Trace, known: str | None, configs: dict[str, RunConfig], served: str, headers: dict[str, dict]
) -> Lesson:
    """Return where runs that served a part of a trace learned, to repeat them; both dictionaries are by their names.

    InputError where they learned from a trace that is not given, or from another one than is given.
    """
    needs = {need for config in configs.values() if config.memory for need in config.memory.needs}
    if not learns(needs):
        return Lesson(trace, served, NONE)
    if known is None:
        found = first_half(trace) if served == SECOND_HALF else Lesson(trace, ALL, HINDSIGHT, OWN)
    else:
        found = replace(lesson_of(trace, known, needs), served=served)
    for name in configs:
        digest = headers[name].get("known_digest") or found.trace.digest
        if digest != found.trace.digest:
            raise InputError(
                f"{name}: learned from trace {digest}, here from {found.trace.digest}; allowed: --known TRACE, the same"
            )
    return found


def lesson_of(trace: Trace, known: str | None, needs: Iterable[str]) -> Lesson:
    """Return where policies with these needs learn; `known` is the option of that name (`HELP`).

    InputError for a trace that cannot be read or is of a model of another size, and for one without halves.
    """
    if not learns(needs):
        return Lesson(trace, ALL, NONE)
    if known is None:
        return first_half(trace)
    if known == HINDSIGHT:
        return Lesson(trace, ALL, HINDSIGHT, OWN)
    source = load_trace(Path(known))
    check_sizes(Path(known), source, trace)
    return other(trace, source, Path(known).name)


def first_half(trace: Trace) -> Lesson:
    """Return the lesson of a trace's first half; the second is counted."""
    found = halves(trace.sequence_T, trace.step_T)
    return Lesson(trace.only(~found.second_T), SECOND_HALF, HELD_OUT, f"known: held-out: {found.said}, by every policy")


def other(trace: Trace, source: Trace, name: str) -> Lesson:
    """Return the lesson of another trace, which must not hold what is counted to be held out."""
    if all(source.field_digests[field] == trace.field_digests[field] for field in CHOICES):
        return Lesson(source, ALL, HINDSIGHT, f"known: hindsight: {name} is the very trace that is counted")
    if both := shared_sequences(trace, source):
        said = f"known: hindsight: {both} of the {trace.S} sequences that are counted are in {name} too"
        return Lesson(source, ALL, HINDSIGHT, said)
    return Lesson(source, ALL, HELD_OUT, f"known: held-out: what is learned beforehand comes from {name}")


def shared_sequences(trace: Trace, source: Trace) -> int:
    """Return how many sequences of a trace have the same selections in another; very short ones do not count."""
    k = min(trace.K, source.K, trace.header.model.used_k)
    return len(telling(trace, k) & telling(source, k))


def telling(trace: Trace, k: int) -> set[bytes]:
    """Return the selections of every sequence that is long enough to be told from others by them."""
    order_T = np.argsort(trace.sequence_T, kind="stable")
    experts_TLK = trace.experts_TLK[order_T, :, :k]
    starts = np.flatnonzero(np.diff(trace.sequence_T[order_T], prepend=-1))
    found: Sequence[np.ndarray] = np.split(experts_TLK, starts[1:])
    return {each.tobytes() for each in found if (each >= 0).sum() >= LEAST_TELLING}
