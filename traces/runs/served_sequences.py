"""The sequences that a run served: when each arrived, when it was done, how many passes and tokens it had.

A sequence that is served twice (a trace that is cycled) counts twice.

Where records tell prompts from decoding, a sequence's tokens come one after another: its first one when its prompt is
computed, so when the pass in front of its first decoding one ends (without a prompt: its first pass), and one more with
every token that a later pass decodes. A prompt that follows decoded tokens, another turn of a talk, takes no part in
the time of decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DECODE = 1  # the phase of a pass that decodes


@dataclass(frozen=True)
class Served:
    """Served sequences in the order of the workload: first arrival, last end, passes and tokens of each.

    `first_token_ns` is when the first token of each was there, `decoding_ns` how long its decoding passes took, each
    since the end of the pass before it, and `further` how many tokens those decoded, the first one not among them. None
    where records do not tell prompts from decoding.
    """

    arrival_ns: np.ndarray
    end_ns: np.ndarray
    passes: np.ndarray
    tokens: np.ndarray
    first_token_ns: np.ndarray | None = None
    decoding_ns: np.ndarray | None = None
    further: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.arrival_ns)


def served_sequences(passes: dict[str, np.ndarray]) -> Served:
    """Return the sequences behind a table of passes.

    Passes are numbered sequence after sequence, each in the order of its steps: where the sequence changes, or the step
    does not grow, another one begins.
    """
    order = np.argsort(passes["pass_id"], kind="stable")
    sequence, step = passes["sequence"][order], passes["step"][order]
    begins = np.flatnonzero(np.r_[True, (sequence[1:] != sequence[:-1]) | (step[1:] <= step[:-1])][: len(order)])
    if len(begins) == 0:
        none = np.zeros(0, np.int64)
        return Served(none, none, none, none)
    count, tokens = np.diff(np.append(begins, len(order))), passes["tokens"][order].astype(np.int64)
    end_ns, of_tokens = passes["end_ns"][order], ()
    if "phase" in passes:
        of_tokens = tokens_of(passes["phase"][order] == DECODE, end_ns, tokens, begins, count)
    return Served(
        passes["arrival_ns"][order][begins],
        np.maximum.reduceat(end_ns, begins),
        count,
        np.add.reduceat(tokens, begins),
        *of_tokens,
    )


def tokens_of(
    decodes: np.ndarray, end_ns: np.ndarray, tokens: np.ndarray, begins: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (first token ns, ns of decoding, tokens decoded behind the first) of every sequence.

    Passes are in the order of their sequences: `begins` are the first ones of each, `count` how many it has.
    """
    place = np.arange(len(end_ns)) - np.repeat(begins, count)
    behind = decodes & (place > 0)  # a first pass that decodes brings the first token
    # The pass before the first that decodes brings the first token; where none does, the last pass of all.
    first = np.minimum.reduceat(np.where(behind, place, np.iinfo(np.int64).max), begins)
    brings = begins + np.where(decodes[begins], 0, np.minimum(first, count) - 1)
    since_ns = np.where(behind, end_ns - np.concatenate([end_ns[:1], end_ns[:-1]]), 0)
    return end_ns[brings], np.add.reduceat(since_ns, begins), np.add.reduceat(np.where(behind, tokens, 0), begins)
