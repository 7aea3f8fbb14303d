"""A user's own rules: found as `module:Name` or registered, run as themselves, and named without a doubt."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sweep_worlds import toy_study, toy_trace
from worlds import world

from moe_replay.analysis.reading.configurations import every_setting
from moe_replay.simulate.__main__ import app
from moe_replay.simulate.config.costs import affine
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import SCHEDULERS, RunConfig
from moe_replay.simulate.engines.engine_choice import engine_for, simulate
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.caches.lfu import LFU
from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.policies.placement import PLACEMENTS, place
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.simulate.policies.rule_names import TABLES, Rules
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.simulate.sweeps.sweep import sweep
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.runs.sweep_table import load_sweep

ROOT = Path(__file__).resolve().parents[3]

MODULE = Path(__file__).with_name("rules_of_a_user.py").read_text()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The module `mine` in the current folder."""
    path = tmp_path / "mine.py"
    path.write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("mine", None)


@pytest.fixture
def tables():
    """The tables of names, put back as they were."""
    before = {field: dict(rules) for field, rules in TABLES.items()}
    yield
    for field, rules in TABLES.items():
        rules.clear()
        rules.update(before[field])
        rules.digests.clear()


@pytest.fixture
def call(capsys, monkeypatch):
    """Call a command of `simulate` in this process; return (exit status, stdout, last line of stderr)."""

    def run(*words):
        words = [*map(str, words)]
        monkeypatch.setattr(sys, "argv", [str(ROOT / "simulate" / "__main__.py"), *words])
        with pytest.raises(SystemExit) as left:
            command.run(app, "simulate")
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err.strip().splitlines()[-1:]

    return run


def toy_world():
    """Sixty tokens of three layers, two of six experts each."""
    rng = np.random.default_rng(0)
    experts = [[sorted(map(int, rng.choice(6, 2, replace=False))) for _ in range(3)] for _ in range(60)]
    return world(experts, E=6, sequence=np.arange(60) // 3, step=np.arange(60))


def answers(**fields):
    """The tables of a run under whatever engine plays it."""
    records = simulate(toy_world(), RunConfig(**fields), affine(700, 300), {"config": {}})
    kinds = (records.passes, records.batches, records.transfers)
    return records.header["engine"], [
        {name: column.tolist() for name, column in (columns or {}).items()} for columns in kinds
    ]


def kept(**fields):
    return MemoryConfig(**{"slots": 2, "link_latency_ns": 900, **fields})


@pytest.mark.parametrize(
    ("own", "shipped"),
    [
        ({"memory": {"cache": "mine:Same"}}, {"memory": {"cache": "lru"}}),
        ({"memory": {"cache": "mine:SameOptimum"}}, {"memory": {"cache": "belady"}}),
        ({"memory": {"cache": "mine:SameDeclining"}}, {"memory": {"cache": "belady-bypass"}}),
        (
            {"memory": {"prefetch": "mine:SameOracle", "look_ahead": 2}},
            {"memory": {"prefetch": "oracle", "look_ahead": 2}},
        ),
        ({"memory": {"prefetch": "mine:SameAhead"}}, {"memory": {"prefetch": "previous-token"}}),
        ({"scheduler": "mine:SameQueues", "queue_size": 3}, {"queue_size": 3}),
        ({"arrivals": "mine:same_time"}, {"arrivals": "all"}),
    ],
)
def test_a_copy_of_a_shipped_rule_answers_as_it_does_under_simpy(mine, own, shipped):
    of_own, of_shipped = (
        {name: kept(**value) if name == "memory" else value for name, value in fields.items()}
        for fields in (own, shipped)
    )
    engine, found = answers(**of_own)
    expected_engine, expected = answers(**of_shipped)
    assert (engine, expected_engine) == ("simpy", "compiled")
    assert found == expected
    with pytest.raises(InputError, match=r"^engine 'compiled' does not have \w+( policy)? 'mine:\w+'; allowed: --eng"):
        engine_for("compiled", RunConfig(**of_own))


def test_what_differs_from_shipped_rules_answers_otherwise(mine):
    assert answers(memory=kept(cache="mine:MRU"))[1] != answers(memory=kept())[1]
    assert answers(arrivals="mine:paced")[1] != answers(arrivals="mine:paced", in_flight=2)[1] != answers()[1]
    with pytest.raises(RuntimeError, match=r"Beyond proposes \[99\]; allowed: keys 0\.\.17"):
        answers(memory=kept(prefetch="mine:Beyond"))


def test_arrivals_that_are_none_are_refused(mine):
    with pytest.raises(InputError, match="arrivals 'mine:a_list' give list, allowed: an Arrivals"):
        answers(arrivals="mine:a_list")
    for name, found in (("halves", "20 of float64"), ("backwards", "20 of int64"), ("too_many", "21 of int64")):
        with pytest.raises(InputError, match=f"arrival times are {found}, allowed: whole ns >= 0, ascending, one for"):
            answers(arrivals=f"mine:{name}")
    with pytest.raises(RuntimeError, match="30 of 60 passes never finished"):
        answers(arrivals="mine:half_of_them")


def test_a_placement_is_checked_and_runs_in_both_engines(mine):
    assert place("mine:reverse", 1, 4, 2).tolist() == [[0, 1, 1, 0, 0]] * 2
    own = {"placement": "mine:reverse", "devices": 2}
    assert answers(**own)[0] == "compiled"
    assert answers(**own)[1] != answers(devices=2)[1]
    with pytest.raises(InputError, match=r"placement 'mine:elsewhere' gives device 2, allowed 0\.\.1"):
        answers(placement="mine:elsewhere", devices=2)
    with pytest.raises(InputError, match=r"'mine:same_time': same_time does not take \(layers, experts, devices\)"):
        place("mine:same_time", 1, 4, 2)
    with pytest.raises(InputError, match=r"'mine:flat' gives int64 of shape \(4,\), allowed: integers of shape \(2, 5"):
        place("mine:flat", 1, 4, 2)
    with pytest.raises(InputError, match=r"'mine:crowded' leaves a device without experts; allowed: some on each of 2"):
        place("mine:crowded", 1, 4, 2)


def test_misses_counts_the_policy_itself_in_every_mode(mine, call, tmp_path):
    """Kernels count LRU, objects its copy: equal; MRU by hand: 0 1 2 0 1 with two slots lets 1 go, then 0."""
    save_trace(toy_trace(tokens=60), tmp_path / "toy.trace.parquet")
    for mode in ("flat", "group"):
        out = tmp_path / f"{mode}.csv"
        names = "lru,mine:Same,mine:MRU,belady,mine:SameOptimum,belady-bypass,mine:SameDeclining"
        words = ("misses", "toy.trace.parquet", "--cache", names, "--slots", "2,4", "--mode", mode, "--out", out)
        status, printed, said = call(*words)
        assert (status, said) == (0, said)
        assert "mine:MRU" in printed
        with open(out, newline="") as opened:
            rows = list(csv.DictReader(opened))
        by = {name: [row["misses"] for row in rows if row["policy"] == name] for name in names.split(",")}
        assert by["lru"] == by["mine:Same"]
        assert by["belady"] == by["mine:SameOptimum"]
        assert by["belady-bypass"] == by["mine:SameDeclining"]
        assert mode == "group" or by["mine:MRU"] != by["lru"]
        inputs = json.loads(out.with_suffix(".json").read_text())["inputs"]
        assert inputs["mine:MRU"] == inputs["mine:Same"] == sha256_of(mine).removeprefix("sha256:")
    cache = CACHES["mine:MRU"](2, range(3), None)
    for now, expert in enumerate([0, 1, 2, 0, 1]):
        assert cache.access(expert, now) or cache.load(expert, now)
    assert (cache.counts.misses, cache.counts.evictions, sorted(cache.slot_of)) == (4, 2, [1, 2])


def test_every_way_to_name_it_wrongly_is_one_line(mine, call, tmp_path):
    save_trace(toy_trace(tokens=20), tmp_path / "toy.trace.parquet")
    (tmp_path / "broken.py").write_text("import no_such_thing_at_all\n")
    (tmp_path / "untidy.py").write_text("1 / 0\n")
    base = "moe_replay.simulate.policies.caches.cache.Cache"
    lines = {
        "yours:MRU": "no module yours; allowed: yours.py in the current folder, or an installed package",
        "mine.more:MRU": "no module mine.more; allowed: mine/more.py in the current folder, or an installed package",
        "broken:MRU": "broken cannot be imported: No module named 'no_such_thing_at_all'",
        "untidy:MRU": "untidy cannot be imported: ZeroDivisionError: division by zero",
        "mine:MRV": "mine has no MRV; it has Belady, BeladyBypass, LRU, MRU, Same, SameOptimum, SameDeclining",
        "mine:NUMBER": f"7 is no subclass of {base}",
        "mine:SameAhead": f"SameAhead is no subclass of {base}",
        "mine:Idle": "Idle does not define victim or wants",
        "mine:MRU.Inner": "allowed: MODULE:NAME, of letters, digits, _ and dots, at most 80 in all",
        f"{'m' * 80}:MRU": "allowed: MODULE:NAME, of letters, digits, _ and dots, at most 80 in all",
    }
    for name, line in lines.items():
        status, _, said = call("misses", "toy.trace.parquet", "--cache", name, "--slots", "2")
        assert (status, said) == (2, [f"simulate: cache policy {name!r}: {line}"])
    status, _, said = call("run", "toy.trace.parquet", "--affine", "1,1", "--arrivals", "mine:MRU", "--out", "runs")
    assert (status, said) == (2, ["simulate: arrivals 'mine:MRU': MRU is no function"])
    status, _, said = call("misses", "toy.trace.parquet", "--cache", "mru", "--slots", "2")
    assert status == 2
    assert said[0].startswith("simulate: unknown cache policy 'mru'; known: belady, ")


def test_names_of_files_and_what_headers_tell(mine):
    memory = kept(cache="mine:MRU", prefetch="mine:SameAhead", look_ahead=3)
    own = {"scheduler": "mine:SameQueues", "queue_size": 4, "arrivals": "mine:paced", "in_flight": 2}
    config = RunConfig(**own, memory=memory)
    assert config.name == (
        "scheduler=mine.SameQueues-B004-arrivals=mine.paced-N2-"
        "cache=mine.MRU-C02-load-prefetch=mine.SameAhead+3-x900ns+1by1e+09"
    )
    header = run_header("simulated", config, "none", "t", None, {})
    assert header["config"]["memory"]["cache"] == "mine:MRU"
    names = ("mine:SameQueues", "mine:paced", "mine:MRU", "mine:SameAhead")
    assert header["own_rules"] == dict.fromkeys(names, sha256_of(mine).removeprefix("sha256:"))
    assert "own_rules" not in run_header("simulated", RunConfig(), "none", "t", None, {})
    mine.unlink()
    sys.modules.pop("mine")
    again = RunConfig.from_dict(header["config"])  # to show it nothing need be imported, to run it it must
    assert again == config
    with pytest.raises(InputError, match="no module mine; allowed"):
        engine_for("simpy", again)


def test_registered_rules(mine, tables):
    class Own(LRU):
        """LRU under another name."""

    assert CACHES.register("own", Own) is Own
    CACHES.register("own", Own)
    config = RunConfig(memory=kept(cache="own"))
    assert config.memory.name.startswith("cache=own-C02")
    assert answers(memory=config.memory) == ("simpy", answers(memory=kept())[1])
    del CACHES["own"]
    read = RunConfig.from_dict(config.as_dict())  # as in a process that has not registered it
    assert (read.name, read) == (config.name, config)
    with pytest.raises(InputError, match="unknown cache policy 'own'; known: belady, "):
        engine_for("auto", read)
    for rules, name, rule, line in (
        (CACHES, "lru", Own, "cache policy 'lru': the name is taken; allowed: another one"),
        (CACHES, "resident", Own, "cache policy 'resident': the name is taken; allowed: another one"),
        (CACHES, "my-own", Own, "cache policy 'my-own': allowed: up to 80 letters, digits and _, a letter first"),
        (CACHES, "a/b", Own, "cache policy 'a/b': allowed: up to 80 letters, digits and _, a letter first"),
        (CACHES, "own", 7, "cache policy 'own': 7 is no subclass of moe_replay.simulate.policies.caches.cache.Cache"),
        (PREFETCHERS, "own", Own, "prefetcher 'own': test_registered_rules.<locals>.Own is no subclass of "),
        (SCHEDULERS, "own", Own, "scheduler 'own': test_registered_rules.<locals>.Own is no subclass of "),
        (PLACEMENTS, "own", Own, "placement 'own': test_registered_rules.<locals>.Own is no function"),
    ):
        with pytest.raises(InputError) as refused:
            rules.register(name, rule)
        assert str(refused.value).startswith(line)


def test_another_class_under_a_shipped_name_is_not_taken_for_it(tables):
    class Instead(LFU):
        """LFU that lets the one used last go."""

        def victim(self, now, kept):
            return max((expert for expert in self.slot_of if expert not in kept), key=lambda each: self.uses[each])

    expected = answers(memory=kept(cache="lfu"))
    CACHES["lfu"] = Instead
    engine, found = answers(memory=kept(cache="lfu"))
    assert (engine, expected[0]) == ("simpy", "compiled")
    assert found != expected[1]


BY_B = ("fill_expert", "fill_dense", "capacity_per_s")


def answer(point):
    """What a point of a sweep says, as text, as some is nan; what B means under an own scheduler nobody knows."""
    return repr([point.whole, {name: value for name, value in point.values.items() if name not in BY_B}, point.counts])


def test_a_sweep_over_own_rules_on_processes_continues_only_with_the_same_source(mine, call, tmp_path):
    toy_study(tmp_path, world={"tokens": 40})
    words = ["sweep", "toy.trace.parquet", "--affine", "2000,100", "--axis", "cache=lru,mine:Same,mine:MRU", "--axis",
             "slots=2", "--axis", "scheduler=queues,mine:SameQueues", "--axis", "queue_size=2", "--axis",
             "arrivals=all,mine:same_time", "--axis", "expert_bytes=1000", "--out", "swept.parquet", "--jobs", "2",
             ]  # fmt: skip
    assert call(*words)[0] == 0
    points = load_sweep(tmp_path / "swept.parquet")[0]
    assert len(points) == 3 * 2 * 2
    found = {}
    for point in points:
        same = {"mine:Same": "lru", "mine:SameQueues": "queues", "mine:same_time": "all"}
        of = (point.config["memory"]["cache"], point.config["scheduler"], point.config["arrivals"])
        found.setdefault(tuple(same.get(name, name) for name in of), []).append(point)
    assert {key: len(rows) for key, rows in found.items()} == {
        ("lru", "queues", "all"): 8,
        ("mine:MRU", "queues", "all"): 4,
    }
    assert all(answer(point) == answer(points[0]) for points in found.values() for point in points)
    assert {point.engine for point in found["mine:MRU", "queues", "all"]} == {"simpy"}
    mine.write_text(MODULE + "\n# another version\n")
    status, _, said = call(*words)
    assert status == 2
    assert "holds another sweep" in said[0]
    assert "mine:MRU_digest" in said[0]


def test_arrivals_that_outrun_the_machine_are_unstable_under_an_own_process_too(mine, tmp_path):
    """A sequence of one pass every microsecond, of which each takes about 15 one after another."""
    study = toy_study(tmp_path, world={"tokens": 2000, "expert_bytes": None})
    configs = [RunConfig(arrivals="mine:paced", in_flight=each) for each in (1, 40)]
    fast, slow = sweep(study, {each.name: each for each in configs}, tmp_path / "swept.parquet", jobs=1)
    assert (fast.status, slow.status) == ("unstable", "ok")
    assert fast.values["offered_per_s"] == pytest.approx(1e6)
    assert slow.values["offered_per_s"] == pytest.approx(1e6 / 40)
    shown = every_setting(slow.config)
    assert (shown["arrivals"], shown["in_flight"]) == ("mine:paced", 40)


SCRIPT = '''
from pathlib import Path

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.sweep import sweep


class Mine(LRU):
    """LRU under a name of my own."""


if __name__ == "__main__":
    CACHES.register("mine", Mine)
    study = Study(Path("toy.trace.parquet"), affine="2000,100")
    configs = [RunConfig(memory=MemoryConfig(cache=name, slots=each)) for name in ("mine", "lru") for each in (1, 2)]
    points = sweep(study, {config.name: config for config in configs}, Path("swept.parquet"), jobs=2)
    assert [point.status for point in points] == ["ok"] * 4 or [point.reason for point in points]
    found = [repr([point.whole, point.values, point.counts]) for point in points]  # repr: some are nan
    assert found[:2] == found[2:]
'''


def test_what_a_script_registers_its_worker_processes_know(tmp_path):
    toy_study(tmp_path, world={"tokens": 400})
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_records_of_own_rules_are_kept_and_of_another_version_refused(mine, call, tmp_path):
    save_trace(toy_trace(tokens=40), tmp_path / "toy.trace.parquet")
    words = ["memory", "toy.trace.parquet", "--affine", "2000,100", "--cache", "mine:MRU", "--slots", "2",
             "--expert-bytes", "1000", "--no-explain", "--jobs", "1", "--out", "memory"]  # fmt: skip
    assert call(*words)[0] == 0
    name = next(name for name in run_names(tmp_path / "memory") if "cache=mine.MRU" in name)
    assert load_run(tmp_path / "memory", name).header["engine"] == "simpy"
    status, printed, _ = call(*words)
    assert (status, printed.splitlines()[0]) == (0, "2 of 2 runs are complete already")
    mine.write_text(MODULE + "\n# another version\n")
    status, _, said = call(*words)
    assert status == 2
    assert "holds a run of another version of a rule of your own" in said[0]


def test_a_configuration_is_checked_by_names_and_its_rules_are_loaded_when_they_are_looked_up():
    code = (
        "import sys; from moe_replay.simulate.config.run_config import ARRIVALS, SCHEDULERS, RunConfig\n"
        "RunConfig(scheduler='lockstep', arrivals='closed', in_flight=2).name\n"
        "loaded = [name for name in sys.modules if name.endswith(('policies.lockstep', 'policies.arrivals'))]\n"
        "print(loaded, SCHEDULERS['lockstep'].__name__, ARRIVALS['closed'].__name__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["[]", "Lockstep", "closed"]


def test_a_table_of_names_is_filled_with_exactly_their_rules(tables):
    table = Rules.named("stub", "stub", ("one", "two"), "nowhere")
    try:
        with pytest.raises(ValueError, match="stub: rules \\['one'\\] for the names \\['one', 'two'\\]"):
            table.fill(None, {"one": len})
        table.fill(None, {"one": len, "two": max})
        assert (table["two"], list(table)) == (max, ["one", "two"])
    finally:
        del TABLES["stub"]
