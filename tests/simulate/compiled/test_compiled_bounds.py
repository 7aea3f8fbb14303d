"""The lists of the compiled engine are as long as its worlds can make them, and no longer.

For every list there is a world here that fills it to its last place: with one place less the checked form refuses it.
"""

import numpy as np
import pytest
from equality import assert_equal, simulate_checked
from memory_worlds import memory, with_candidates
from worlds import config, fixed, world

from moe_replay.simulate.compiled.pointers import Pointed, place_of
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.engines.compiled_engine import CompiledRun
from moe_replay.simulate.policies.memory.memory_setup import Known

TEN = fixed(10)


def prompts(*tokens, E=1, k=1):
    """Return passes of so many tokens in two layers, each of which selects the first k experts."""
    sequence = [p for p, count in enumerate(tokens) for _ in range(count)]
    return world([[range(k)] * 2] * sum(tokens), E, sequence)


@pytest.mark.parametrize(
    ("size", "tokens", "nodes"), [(4096, [100], 200), (100, [100], 200), (99, [99, 1], 199), (1, [1, 99], 101)]
)
def test_members_of_a_batch_keep_their_nodes_until_their_successors_have_theirs(size, tokens, nodes):
    made = CompiledRun(prompts(*tokens), config(queue_size=size), TEN)
    made.run()
    assert (made.world.fresh_node, len(made.world["nodes_N"])) == (nodes, nodes)
    assert_equal(prompts(*tokens), config(queue_size=size), TEN)


@pytest.mark.parametrize("scheduler", [{"queue_size": 4096}, {"scheduler": "lockstep"}])
@pytest.mark.parametrize("dense", [True, False])
def test_long_prompts_are_played_with_and_without_dense_blocks(scheduler, dense):
    settings = RunConfig(**scheduler, dense=dense, arrivals="closed", in_flight=1)
    assert_equal(prompts(400, E=8, k=2), settings, TEN)


ALL_OF_THREE = world([[[0, 1, 2]]], E=3)
FOUR_PASSES = world([[[0]]] * 4, E=1)
FOUR_EMPTY = world([[[]]] * 4, E=1)
FOUR_SKIPPED = with_candidates(world([[[0]]] * 4, E=2), np.random.default_rng(0))
SIX_KEYS = with_candidates(world([[[0], [0]]] * 2, E=3), np.random.default_rng(0))
# The expert that runs last in layer 1 is on its way when that stage begins, and loses its slot on arrival to the first.
OVERTAKEN = world([[[0], [0, 1, 2]]], E=3)
LOCKSTEP = {"scheduler": "lockstep"}
SLOW_AHEAD = memory(slots=1, prefetch="popularity", link_latency_ns=40, asks="turn")
PLANNED = memory(slots=3, cache="importance", miss="skip", period=1, prefetch="previous-token")
SKIPPING = memory(slots=1, miss="skip", filled=True)
FULL = {
    "nodes_N": (0, prompts(5, k=2, E=2), {"queue_size": 5}),
    "timed_Q": (0, ALL_OF_THREE, {"queue_size": 2, "timeout_ns": 50}),
    "joining_Q": (0, ALL_OF_THREE, {}),
    "finished_P": (0, FOUR_EMPTY, {}),
    "emptied_P": (0, FOUR_SKIPPED, {"memory": SKIPPING}),
    "arriving_P": (0, FOUR_PASSES, {}),
    "queued_P": (0, FOUR_PASSES, LOCKSTEP),
    "step_P": (0, FOUR_PASSES, LOCKSTEP),
    "start_S": (0, world([[[0]]] * 3, 1, [0] * 3, range(3)), {"arrivals": "steps"}),
    "of_step_P": (0, world([[[0]]] * 3, 1, [0] * 3, range(3)), {"arrivals": "steps"}),
    "free_CS": (1, ALL_OF_THREE, {"memory": memory(slots=3)}),
    "protected_CK": (1, ALL_OF_THREE, {**LOCKSTEP, "memory": memory(slots=1)}),
    "asking_CK": (1, OVERTAKEN, {**LOCKSTEP, "memory": SLOW_AHEAD}),
    "entered_EN": (0, FOUR_PASSES, {"memory": memory(prefetch="previous-token")}),
    "group_E": (0, ALL_OF_THREE, {"memory": memory(prefetch="previous-token")}),
    "last_SLM": (2, ALL_OF_THREE, {"memory": memory(prefetch="previous-token")}),
    "ahead_K": (0, prompts(1, 1, E=2, k=2), {"memory": memory(prefetch="oracle", look_ahead=9)}),
    "plan_DK": (1, SIX_KEYS, {"memory": PLANNED}),
}


@pytest.mark.parametrize("name", FULL)
def test_with_one_place_less_than_its_bound_a_list_is_overrun(monkeypatch, name):
    dimension, workload, fields = FULL[name]
    settings, put = config(**fields), Pointed.put
    worth = list(range(workload.layers * workload.experts))
    known = Known(worth, worth)
    assert_equal(workload, settings, TEN, known)

    def put_short(self, **arrays):
        put(self, **arrays)
        if name in arrays:
            self.record["pointers"][0, place_of(self.arrays, name) + 1 + dimension] -= 1

    monkeypatch.setattr(Pointed, "put", put_short)
    with pytest.raises(RuntimeError, match=rf"^{name}\[(\d+)\] is out of bounds, it has \1 places$"):
        simulate_checked(workload, settings, TEN, {"config": {}}, known)
