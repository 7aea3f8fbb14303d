"""What a replay does at one instant, step by step, while it is played."""

from functools import partial

from moe_replay.simulate.policies.instant_order import STEPS

FIRST = next(iter(STEPS))


def rounds_of(replay):
    """Return a list that a run fills: of every round the names of the methods that are its steps, in order."""
    rounds = []

    def noted(name, step, now):
        if name == FIRST:
            rounds.append([])
        rounds[-1].append(name)
        return step(now)

    replay.steps = [partial(noted, step.__name__, step) for step in replay.steps]
    return rounds
