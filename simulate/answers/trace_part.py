"""The part of a trace that a quick answer simulates: the first whole sequences that a run would serve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.shared_inputs import Study, cut_out, stamped

QUICK = 1_000_000  # selections of a quick answer


@dataclass(frozen=True)
class Part:
    """The first `sequences` of `of`, with `selections` of `of_selections`, in the order in which a run serves them."""

    sequences: int
    of: int
    selections: int
    of_selections: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return self.sequences == self.of


def part_of(study: Study, config: RunConfig, most: int | None = QUICK) -> Part:
    """Return the longest part with at most `most` selections (None: everything); at least one sequence."""
    counted_G = selections_of(*stamped(study.trace), config.k, config.seed, config.served)
    ends_G = np.cumsum(counted_G)
    kept = len(counted_G) if most is None else max(1, int(np.searchsorted(ends_G, most, "right")))
    return Part(kept, len(counted_G), int(ends_G[kept - 1]), int(ends_G[-1]))


@lru_cache(maxsize=16)
def selections_of(path: Path, stamp: tuple, k: int | None, seed: int | None, served: str) -> np.ndarray:
    """Return the selections of every sequence, in the order in which a run with this seed serves them (int64)."""
    workload = cut_out(path, stamp, k, None, seed, False, served)
    return np.bincount(workload.group_P, workload.selections_PL.sum(1)).astype(np.int64)
