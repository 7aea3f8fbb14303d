"""The way of a pass through its stages, and the tokens' choices in them: what queues and lockstep share."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.run_layout import World, emptied_P, experts_TLK, finished_P, pass_at, routed_NK


@inlined
def expert_of(world: World, masked: int | None, row: int, token: int, layer: int, rank: int) -> int:
    """Return the expert that a token, recorded in a row, runs at a rank in a layer, -1 for an empty slot."""
    # `masked` is known when this is compiled, so that the form for plain gating holds no test.
    return experts_TLK(world)[row, layer, rank] if masked is None else routed_NK(world)[token, rank]


@compiled
def members_of(world: World, p: int, stage: int) -> int:
    """Return how many members a pass has in a stage by its recorded choices; 0 where it moves on at once."""
    rec = pass_at(world, p)
    layer = stage >> 1
    if stage & 1 == 0:
        return world.dense
    # Most traces have no empty slot in any row: then nothing needs to be counted.
    if world.filled_rows:
        return rec.tokens * world.k
    count = 0
    for row in range(rec.first_row, rec.first_row + rec.tokens):
        for rank in range(world.k):
            if experts_TLK(world)[row, layer, rank] >= 0:
                count += 1
    return count


@compiled
def has_members(world: World, p: int, stage: int) -> bool:
    """Say whether a pass has members in a stage."""
    return members_of(world, p, stage) > 0


@compiled
def advance(world: World, p: int) -> bool:
    """Move a pass to its next stage that has members; return False if there is none, so that it finishes."""
    rec = pass_at(world, p)
    stages = 2 * world.layers + 1
    stage = rec.stage + 1
    while stage < stages:
        members = members_of(world, p, stage)
        if members:
            # `left` by the recorded choices; masked gating sets it anew when the pass enters the layer.
            rec.stage, rec.left = stage, members
            return True
        stage += 1
    world.present -= 1
    return False


@compiled
def finish(world: World, p: int) -> None:
    """Note that a pass is done in this round."""
    finished_P(world)[world.finished] = p
    world.finished += 1


@compiled
def finish_empty(world: World, p: int) -> None:
    """Note that a pass is done because masked gating left it no member."""
    # A list of their own, as in the reference: they are recorded behind those whose batches ended.
    emptied_P(world)[world.emptied] = p
    world.emptied += 1
