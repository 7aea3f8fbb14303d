"""The lists of the compiled engine are as long as its worlds can make them, and no longer."""

import pytest
from equality import assert_equal
from worlds import config, fixed, world

from simulate.compiled.run import CompiledRun
from simulate.policies.config import RunConfig


def prompts(*tokens, E=1, k=1):
    """Return passes of so many tokens in two layers, each of which selects the first k experts."""
    sequence = [p for p, count in enumerate(tokens) for _ in range(count)]
    return world([[range(k)] * 2] * sum(tokens), E, sequence)


@pytest.mark.parametrize(
    ("size", "tokens", "nodes"), [(4096, [100], 200), (100, [100], 200), (99, [99, 1], 199), (1, [1, 99], 101)]
)
def test_members_of_a_batch_keep_their_nodes_until_their_successors_have_theirs(size, tokens, nodes):
    made = CompiledRun(prompts(*tokens), config(queue_size=size), fixed(10))
    made.run()
    assert (made.world.fresh_node, len(made.world["nodes_N"])) == (nodes, nodes)
    assert_equal(prompts(*tokens), config(queue_size=size), fixed(10))


@pytest.mark.parametrize("scheduler", [{"queue_size": 4096}, {"scheduler": "lockstep"}])
@pytest.mark.parametrize("dense", [True, False])
def test_long_prompts_are_played_with_and_without_dense_blocks(scheduler, dense):
    settings = RunConfig(**scheduler, dense=dense, arrivals="closed", in_flight=1)
    assert_equal(prompts(400, E=8, k=2), settings, fixed(10))
