"""Random worlds by the thousand: the compiled engine, in its checked form too, has the reference's records.

    python tests/benchmarks/equal_worlds.py                                        3,000 worlds of every kind
    python tests/benchmarks/equal_worlds.py --worlds 500 --kind masked --seed 7

Worlds are those of `tests/simulate/engine_worlds.py`, linked ones of `cluster_worlds.py` beside it, drawn in blocks of
100 from seeds that follow the given one. The first world that differs, or goes beyond the bounds of an array, is made
smaller and shown with its kind and its block's seed, which draws it again (`--worlds 100 --seed SEED`); the exit status
is then 1.
"""

import argparse
import sys
import time
import traceback
from pathlib import Path

import hypothesis

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("resident", "memory", "masked", "linked", "linked-queues")
BLOCK = 100
ALONE = hypothesis.settings(
    max_examples=BLOCK, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
)  # fmt: skip


def play(kind, seed, worlds):
    """Play so many worlds of a kind; raise what the first that is not right raises."""
    from cluster_worlds import cluster_runs, queue_runs  # beside the tests
    from engine_worlds import runs
    from equality import assert_equal

    @hypothesis.seed(seed)
    @hypothesis.settings(ALONE, max_examples=worlds)
    @hypothesis.given({"linked": cluster_runs, "linked-queues": queue_runs}.get(kind, lambda: runs(kind))())
    def both_engines_are_equal(drawn):
        assert_equal(*drawn)

    both_engines_are_equal()


def main():
    """Play all worlds that are asked for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=3_000, help="how many of each kind")
    parser.add_argument("--kind", choices=KINDS, action="append", help="one kind, or several; all")
    parser.add_argument("--seed", type=int, default=0, help="of the first block of each kind")
    given = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "simulate")]
    for kind in given.kind or KINDS:
        started = time.perf_counter()
        for done in range(0, given.worlds, BLOCK):
            seed = given.seed + done // BLOCK
            try:
                play(kind, seed, min(BLOCK, given.worlds - done))
            except Exception:
                traceback.print_exc()
                print(f"{kind}: a world of seed {seed} is not right", flush=True)
                return 1
            played = min(done + BLOCK, given.worlds)
            print(f"{kind}: {played:,} of {given.worlds:,} equal, {time.perf_counter() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
