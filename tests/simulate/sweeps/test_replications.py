"""Executed configurations with many seeds, in one table; and machine code made beforehand."""

from sweep_worlds import toy_study
from typer.testing import CliRunner

from moe_replay.simulate.__main__ import app
from moe_replay.simulate.commands.compile_command import FORMS
from moe_replay.simulate.compiled import entries
from moe_replay.simulate.compiled.jit import Entry
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.many_seeds import replicate
from moe_replay.traces.runs.sweep_table import REPLICATIONS, load_sweep


def test_every_configuration_meets_the_same_seeds_whatever_its_own(tmp_path):
    configs = [
        RunConfig(queue_size=size, arrivals="poisson", rate_per_s=20_000.0, seed=seed)
        for size in (2, 8)
        for seed in (7, 9)
    ]
    points = replicate(toy_study(tmp_path), configs, 3, tmp_path / "out", 1)
    assert [(point.config["queue_size"], point.config["seed"]) for point in points] == [
        (size, seed) for size in (2, 8) for seed in (0, 1, 2)
    ]
    assert load_sweep(tmp_path / "out" / REPLICATIONS)[0] == points
    written = (tmp_path / "out" / REPLICATIONS).stat().st_mtime_ns
    replicate(toy_study(tmp_path), configs, 3, tmp_path / "out", 1)
    assert (tmp_path / "out" / REPLICATIONS).stat().st_mtime_ns == written


def test_all_forms_of_the_engine_are_compiled_beforehand():
    done = CliRunner().invoke(app, ["compile"])
    assert done.exit_code == 0, done.output
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(FORMS)
    declared = sorted(name for name, each in vars(entries).items() if isinstance(each, Entry))
    assert sorted(each for names in FORMS.values() for each in names) == declared
