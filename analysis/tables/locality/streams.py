"""Streams: the order in which tokens follow each other, and the control that shuffles it.

A text's stream is a sequence, token after token. A video's stream is one patch of one sequence, frame after frame:
what came before is the same place in the frame before. A trace says which it is (`notes.stream`), text if it does not.
"""

from dataclasses import dataclass

import numpy as np

from moe_replay.traces.describe import default_k, slots
from moe_replay.traces.routes import leaps
from moe_replay.traces.selections import Trace

KINDS = ("sequence", "position")
EMPTIED = ("sequence", "never")  # when caches are: where a stream of a sequence starts, or not at all


@dataclass(frozen=True)
class Streams:
    """Selections in stream order, stream after stream: experts_TLK, the stream of each token (ascending from 0).

    `sequence_T` is the token's sequence, `time_T` which moment of the sequence it belongs to (token, or frame);
    `apart_T` marks tokens before which others are missing in the stream, so that they follow none (None: nowhere).
    """

    experts_TLK: np.ndarray
    stream_T: np.ndarray
    sequence_T: np.ndarray
    time_T: np.ndarray
    experts: int
    apart_T: np.ndarray | None = None

    def shuffled(self, rng: np.random.Generator) -> "Streams":
        """Return the same tokens with the moments of every sequence in random order, the same for all its streams."""
        moment, moment_T = np.unique(np.stack([self.sequence_T, self.time_T]), axis=1, return_inverse=True)
        place_T = rng.random(moment.shape[1])[moment_T.ravel()]
        order_T = np.lexsort((place_T, self.stream_T))
        return Streams(
            self.experts_TLK[order_T], self.stream_T, self.sequence_T[order_T], self.time_T[order_T], self.experts
        )

    @property
    def start_X(self) -> np.ndarray:
        """The first token of every stream."""
        return np.flatnonzero(np.diff(self.stream_T, prepend=-1))


def stream_kind(trace: Trace) -> str:
    """Return which of KINDS a trace's streams are."""
    return trace.header.notes.get("stream", KINDS[0])


def streams_of(trace: Trace, wanted_T: np.ndarray | None = None) -> Streams:
    """Return the streams of a trace's tokens (or of the wanted ones), with the experts that the model used."""
    rows = np.arange(trace.T) if wanted_T is None else np.flatnonzero(wanted_T)
    experts_TLK = slots(trace, default_k(trace))[rows]
    sequence_T, position_T = trace.sequence_T[rows], trace.position_T[rows]
    by_position = stream_kind(trace) == "position"
    key_T = np.stack([sequence_T, position_T if by_position else np.zeros_like(position_T)])
    _, stream_T = np.unique(key_T, axis=1, return_inverse=True)
    order_T = np.argsort(stream_T.ravel(), kind="stable")
    time_T = trace.step_T[rows] if by_position else np.arange(len(rows))
    ordered_T, apart_T = position_T[order_T], np.zeros(len(rows), bool)
    apart_T[1:] = leaps(ordered_T[:-1], ordered_T[1:]) & (not by_position)
    return Streams(
        experts_TLK[order_T], stream_T.ravel()[order_T], sequence_T[order_T], time_T[order_T], trace.E, apart_T
    )


def cached_streams(trace: Trace, emptied: str, wanted_T: np.ndarray | None = None) -> Streams:
    """Return what one cache serves without being emptied: every stream, or (`never`) all tokens in stored order."""
    if emptied == "sequence":
        return streams_of(trace, wanted_T)
    rows = np.arange(trace.T) if wanted_T is None else np.flatnonzero(wanted_T)
    same_T = np.zeros(len(rows), np.int64)
    return Streams(slots(trace, default_k(trace))[rows], same_T, same_T, np.arange(len(rows)), trace.E)
