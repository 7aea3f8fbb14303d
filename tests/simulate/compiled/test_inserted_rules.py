"""A rule put into any place of the tables of names changes nothing that others answer, and runs as itself."""

import json
import os
import subprocess
import sys
from importlib import import_module
from itertools import count
from pathlib import Path

import pytest
from sweep_worlds import toy_trace
from worlds import world

from moe_replay.simulate.compiled.caches import cache_policies
from moe_replay.simulate.compiled.compiled_rules import COMPILED
from moe_replay.simulate.compiled.prefetchers import prefetching
from moe_replay.simulate.compiled.rule_calls import text_of, twins_of
from moe_replay.simulate.compiled.rule_numbers import module_of, numbered
from moe_replay.simulate.config.costs import Affine
from moe_replay.simulate.config.memory_config import HANDLINGS, LINKS
from moe_replay.simulate.config.run_config import SCHEDULERS, RunConfig
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.simulate.policies.arrivals import ARRIVALS
from moe_replay.simulate.policies.caches.cache_names import CACHES, SCOPES
from moe_replay.simulate.policies.caches.fifo import FIFO
from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace

HERE = Path(__file__).resolve().parent


SHARED = {  # by kind of rule: the modules beside the rules that all of them share
    "cache policy": (cache_policies, {"cache", "cache_orders", "cache_policies", "compiled_policy"}),
    "prefetcher": (prefetching, {"prefetching"}),
}


@pytest.mark.parametrize("kind", SHARED)
def test_the_compiled_form_of_a_rule_is_in_the_file_of_the_same_name(kind):
    module, shared = SHARED[kind]
    found = {path.stem for path in Path(module.__file__).parent.glob("*.py")} - shared - {"__init__"}
    assert found == {rule.__module__.rpartition(".")[2] for rule in COMPILED[kind]}


def test_a_rule_without_a_compiled_module_has_no_number_and_moves_no_others():
    class Own(LRU):
        """A policy of this file."""

    assert numbered({"lru": LRU, "own": Own, "fifo": FIFO}, "caches") == {LRU: 0, FIFO: 2}


@pytest.mark.parametrize("kind", SHARED)
def test_a_compiled_module_without_the_form_of_its_rule_is_refused(kind, monkeypatch):
    """As where a class is added to a module that has a compiled form of another."""
    module, _ = SHARED[kind]
    rule = next(iter(COMPILED[kind]))
    twins = import_module(f"{module.__package__}.{module_of(rule)}")
    monkeypatch.setattr(twins, "TWINS", {})
    with pytest.raises(LookupError, match=f"{module_of(rule)}.py: TWINS lacks {rule.__name__}"):
        twins_of(module.__package__, COMPILED[kind])


def test_what_calls_the_rule_of_a_run_asks_one_question_for_each_function():
    rules = {"lru_touch": (len, (3, 4)), "sieve_touch": (max, (7,))}
    assert text_of("touch", "memory, key", "memory.policy", rules).splitlines() == [
        "def touch(memory, key):",
        "    if memory.policy == 3 or memory.policy == 4:",
        "        return lru_touch(memory, key)",
        "    if memory.policy == 7:",
        "        return sieve_touch(memory, key)",
        "    return default(memory, key)",
    ]


def test_every_shipped_rule_is_compiled_and_no_two_share_a_number():
    for rules in (SCHEDULERS, CACHES, PREFETCHERS, ARRIVALS):
        numbers = COMPILED[rules.kind]
        assert set(rules.values()) == set(numbers)
        assert rules is ARRIVALS or len(set(numbers.values())) == len(rules)
    for kind, words in (("miss handling", HANDLINGS), ("link", LINKS), ("scope", SCOPES)):
        assert set(words) == set(COMPILED[kind])
        assert len(set(COMPILED[kind].values())) == len(words)


def test_costs_that_are_not_the_projects_own_are_asked_for_every_batch():
    """A cost that counts its calls, and one that calls all blocks equal (`curve`) and is not: both engines agree."""

    class Slower(Affine):
        def __call__(self, layer, block, tokens):
            return 100 * layer + 10 * block + tokens

    def calls():
        counted = count(1)
        return lambda layer, block, tokens: next(counted)

    toy, config = world([[[0, 1], [1, 2]]] * 9, E=3), RunConfig(queue_size=2)
    for new in (calls, lambda: Slower(1.0, 1.0)):
        found = [simulate(toy, config, new(), {"config": {}}, engine=engine) for engine in ("simpy", "compiled")]
        for name, column in found[0].batches.items():
            assert column.tolist() == found[1].batches[name].tolist()
    for engine in ("simpy", "compiled"):
        for wrong, shown in ((-1, "-1"), (1.5, "1.5"), (None, "None")):
            line = f"cost of 2 tokens in layer 0, block 0 is {shown} ns, allowed whole numbers >= 0"
            with pytest.raises(InputError, match=line):
                simulate(toy, config, lambda *_, wrong=wrong: wrong, {"config": {}}, engine=engine)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="every place is tried in a copy of one process")
def test_a_rule_of_ones_own_at_every_place(tmp_path):
    save_trace(toy_trace(tokens=60), tmp_path / "toy.trace.parquet")
    words = [sys.executable, HERE / "inserted_rules.py", tmp_path / "toy.trace.parquet", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    untouched = json.loads((tmp_path / "untouched.json").read_text())
    places = sorted(path for path in tmp_path.glob("*.json") if path.stem.isdigit())
    assert len(places) == 16
    for path in places:
        found = json.loads(path.read_text())
        assert found["simulated"] == untouched["simulated"], f"inserted at {path.stem}"
        assert found["counted"] == untouched["counted"], f"inserted at {path.stem}"
        for name, said in found["own"].items():
            if name.endswith("auto"):
                assert said[0] == "simpy", name
            else:
                assert said.startswith("engine 'compiled' does not have "), name
                assert said.endswith(" 'own'; allowed: --engine simpy or auto"), name
        assert len(found["own"]) == 2 * 4
    compiled, simpy = (
        {name.rpartition(" ")[0]: said[1:] for name, said in untouched["simulated"].items() if said[0] == engine}
        for engine in ("compiled", "simpy")
    )
    assert compiled == simpy
    assert len(compiled) >= 4 + 1 + 15 + 4 + 3 + 1 + 2  # what differs of every kind
