"""The order of events at one instant: one list, which the README shows and both engines and the executor follow."""

import ast
import inspect
import re
from itertools import pairwise
from pathlib import Path

import pytest
from step_log import rounds_of
from worlds import config, fixed, world

from moe_replay.simulate.compiled import instant as compiled_instant
from moe_replay.simulate.compiled.cluster import linked_instant
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.engines.simpy_engine import Engine
from moe_replay.simulate.policies.instant_order import OF_MESSAGES, STEPS
from moe_replay.simulate.policies.memory.memory_setup import Known

README = Path(__file__).resolve().parents[3] / "simulate" / "README.md"
START = "go_on"  # of compiled code
# The compiled step over linked devices has a loop of its own; `test_cluster_engines.py` holds it to the reference.
UNLINKED = [name for name in STEPS if name not in OF_MESSAGES]
# Queues over linked devices have no expert memory; a port takes its first message as soon as it is free.
LINKED = [name for name in STEPS if name not in ("receive_experts", "begin_messages", "ask_ahead", "begin_transfers")]


def steps_played(source, start=START):
    """Return the steps that compiled code plays, in the order of its text; it follows calls within one module."""
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}

    def called(name):
        calls = [node for node in ast.walk(functions[name]) if isinstance(node, ast.Call)]
        calls.sort(key=lambda call: (call.lineno, call.col_offset))
        for call in calls:
            callee = getattr(call.func, "id", "")
            if callee in STEPS:
                yield callee
            elif callee in functions:
                yield from called(callee)

    return list(called(start))


def test_the_readme_shows_the_list():
    shown = re.search(r"<!-- order -->\n(.*?)<!-- /order -->", README.read_text(), re.DOTALL)[1]
    assert shown == "".join(f"{number}. {text}\n" for number, text in enumerate(STEPS.values(), 1))


MEMORY = MemoryConfig(slots=1, link_latency_ns=10, prefetch="popularity", filled=True)


@pytest.mark.parametrize("scheduler", ["queues", "lockstep"])
@pytest.mark.parametrize("memory", [None, MEMORY])
def test_simpy_plays_every_step_of_every_round_in_this_order(scheduler, memory):
    toy = world([[[0], [1]], [[1], [0]]] * 3, E=2)
    settings = config(scheduler=scheduler, arrivals="closed", in_flight=2, memory=memory)
    engine = Engine(toy, settings, fixed(10), Known(popularity=[1, 2, 3, 4]))
    rounds = rounds_of(engine.replay)
    engine.run()
    assert len(rounds) > 6
    assert all(names == list(STEPS) for names in rounds)


def test_compiled_code_plays_the_steps_in_this_order():
    assert steps_played(inspect.getsource(compiled_instant)) == UNLINKED


def test_compiled_queues_over_links_play_the_steps_in_this_order():
    played = steps_played(inspect.getsource(linked_instant).replace("join_queues(", "join_ready("), "play_queues")
    assert played == LINKED


@pytest.mark.parametrize(("first", "second"), list(pairwise(UNLINKED)))
def test_compiled_code_that_changes_places_is_noticed(first, second):
    swapped = re.sub(rf"\b({first}|{second})\b", lambda name: second if name[0] == first else first,
                     inspect.getsource(compiled_instant))  # fmt: skip
    played = steps_played(swapped)
    assert played != UNLINKED
    assert sorted(played) == sorted(UNLINKED)
