"""A quick run: steps are whole or absent whenever it ends, the clock is kept, and what is missing is named."""

import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import pytest
from quick_steps import tiny_steps, writes

from moe_replay.collect.commands.quick_command import said_of_machine
from moe_replay.collect.quick import packing
from moe_replay.collect.quick.journal import Journal
from moe_replay.collect.quick.machine import said_of_packages
from moe_replay.collect.quick.packing import pack
from moe_replay.collect.quick.plan import Place, plan
from moe_replay.collect.quick.running import DONE, FAILED, SKIPPED, Clock, keeper, run_steps
from moe_replay.collect.quick.steps import Command, Step, chosen
from moe_replay.traces.command_line.child_process import run_until
from moe_replay.traces.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
KILLS = 20
# Three steps of two such commands each, run and packed as the command does it.
RUNS = """
import sys
from pathlib import Path
from quick_steps import tiny_steps
from moe_replay.collect.quick.journal import Journal
from moe_replay.collect.quick.running import Clock, keeper, run_steps
out = Path(sys.argv[1])
clock = Clock(60)
outcomes = run_steps(tiny_steps(out / "gpu"), Journal(out / "gpu" / "quick.json", {}), clock,
                     keeper(out, "gpu", out / "packed", clock))
sys.exit(any(outcome.missing for outcome in outcomes))
"""


def run(steps, path, seconds=20.0, keep=lambda step: None):
    clock = Clock(seconds, path / "quick.log")
    return {outcome.step.name: outcome for outcome in run_steps(steps, Journal(path / "quick.json", {}), clock, keep)}


def step(name, *commands, number=1, least=0.1, share=1.0, **others):
    return Step(number, name, commands, least, share, (f"{name}/*",), **others)


def test_steps_are_done_once_and_what_is_gone_is_made_again(tmp_path):
    steps = tiny_steps(tmp_path)
    assert {each.state for each in run(steps, tmp_path).values()} == {DONE}
    (tmp_path / "link" / "a.csv").unlink()
    before = (tmp_path / "link" / "b.csv").stat().st_mtime_ns
    assert run(steps, tmp_path)["link"].state == DONE
    assert (tmp_path / "link" / "a.csv").exists()
    assert (tmp_path / "link" / "b.csv").stat().st_mtime_ns == before
    assert "is there already" in (tmp_path / "quick.log").read_text()


def test_killed_at_any_moment_everything_is_whole_or_absent(tmp_path):
    """After every kill what has a final name is whole; after the last one the same command makes the rest."""
    words = [sys.executable, "-c", textwrap.dedent(RUNS)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    for kill in range(KILLS):
        out = tmp_path / str(kill)
        with subprocess.Popen([*words, str(out)], env=environment, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()  # it has begun
            time.sleep(kill * 0.02)
            process.send_signal(signal.SIGKILL)
        time.sleep(0.06)  # a child that outlived its parent would finish its file now
        made = {path: path.stat().st_mtime_ns for path in out.glob("gpu/*/[!.]*.csv")}
        assert all(path.read_text() == "whole" for path in made)
        for path in out.glob("packed/[!.]*.tar.gz"):
            with tarfile.open(path) as opened:
                assert all(opened.extractfile(each).read() == b"whole" for each in opened)
        if kill % 5 == 0:
            assert subprocess.run([*words, str(out)], env=environment, stdout=subprocess.DEVNULL).returncode == 0
            assert len(list(out.glob("gpu/*/[!.]*.csv"))) == 6
            assert len(list(out.glob("packed/[!.]*.tar.gz"))) == 3


def test_a_step_takes_what_is_left_but_not_what_later_ones_are_owed(tmp_path):
    slow = step("slow", writes(tmp_path / "slow" / "a.csv", 30), writes(tmp_path / "slow" / "b.csv"))
    later = step("later", writes(tmp_path / "later" / "a.csv"), number=2, share=2.0)
    began = time.monotonic()
    found = run([slow, later], tmp_path, seconds=3.0)
    assert time.monotonic() - began < 3.0
    assert found["later"].state == DONE
    assert found["slow"].state == FAILED
    assert [line.split(": ")[1].split(" after")[0] for line in found["slow"].missing] == [
        "was stopped", "the step's time was up",
    ]  # fmt: skip
    assert not (tmp_path / "slow" / "a.csv").exists()


def test_what_is_not_begun_says_why(tmp_path):
    absent = tmp_path / "absent.parquet"
    found = run(
        [
            step("short", writes(tmp_path / "short" / "a.csv"), least=100),
            step("bare", writes(tmp_path / "bare" / "a.csv"), packages=("numpy", "no_such_package")),
            step("needy", writes(tmp_path / "needy" / "a.csv", wants=(absent,)), writes(tmp_path / "needy" / "b.csv")),
            step("wrong", Command((sys.executable, "-c", "raise SystemExit(2)"), (tmp_path / "wrong",))),
            step("empty", Command((sys.executable, "-c", ""), (tmp_path / "empty",))),
            step("lost", Command(("/no/such/program",), (tmp_path / "lost",))),
        ],
        tmp_path,
    )
    assert [(found[name].state, *found[name].missing) for name in ("short", "bare")] == [
        (SKIPPED, "a.csv: 20 s are left, it needs 100"), (SKIPPED, "a.csv: this Python lacks no_such_package"),
    ]  # fmt: skip
    assert found["needy"].missing == [f"a.csv: needs {absent}, which is missing"]
    assert (tmp_path / "needy" / "b.csv").exists()  # what fails leaves the others their chance
    assert found["wrong"].missing == ["wrong: the command ended with status 2"]
    assert found["empty"].missing == ["empty: the command ended well and made nothing"]
    assert found["lost"].missing == ["lost: the command ended with status 127"]


def test_a_process_that_ignores_being_asked_is_ended_with_its_children(tmp_path):
    child = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
    )
    lines = []
    assert run_until((sys.executable, "-c", child), 1.0, lines.append) is None
    assert (
        run_until((sys.executable, "-c", "print('x' * 9); import os; os.abort()"), 9, lines.append) == -signal.SIGABRT
    )
    assert lines[-1] == "x" * 9


def test_packs_hold_what_fits_and_name_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MOST_BYTES", (64 << 10) + 30_000)
    folder = tmp_path / "gpu" / "text"
    folder.mkdir(parents=True)
    for name, size in (("small.csv", 10), ("large.bin", 20_000), ("huge.bin", 40_000), (".half.1.tmp", 10)):
        (folder / name).write_bytes(os.urandom(size))
    said = []
    one = step("text")
    pack(one, tmp_path, "gpu", tmp_path, said.append)
    with tarfile.open(tmp_path / "gpu-1-text.tar.gz") as opened:
        assert opened.getnames() == ["gpu/text/small.csv", "gpu/text/large.bin"]
    assert (tmp_path / "gpu-1-text.tar.gz").stat().st_size <= packing.MOST_BYTES
    assert ["huge.bin: left out" in line for line in said] == [True]
    pack(step("nothing"), tmp_path, "gpu", tmp_path, said.append)
    assert not (tmp_path / "gpu-1-nothing.tar.gz").exists()
    with pytest.raises(InputError, match="allowed in names"):
        pack(one, tmp_path, "a b", tmp_path, said.append)


def test_a_full_disk_costs_the_pack_alone(tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "gpu" / "text").mkdir(parents=True)
    (tmp_path / "gpu" / "text" / "a.csv").write_text("whole")
    keeper(tmp_path, "gpu", tmp_path / "file", Clock(9))(step("text"))
    assert "step 1 (text) is not packed" in capsys.readouterr().out


def test_the_plan_makes_no_more_files_than_may_travel(tmp_path):
    for on_gpu, gpus, count in ((True, 1, 5), (False, 0, 5), (True, 8, 6)):
        steps = plan(Place("auto", on_gpu, 1, 8, tmp_path, tmp_path, tmp_path, gpus))
        assert len(steps) == count  # exchanges want several GPUs
        assert [each.number for each in steps] == list(range(1, len(steps) + 1))
        assert len(steps) + 1 <= packing.MOST_FILES
        assert sum(each.share_s for each in steps) <= 480
        assert all(each.least_s <= each.share_s for each in steps)
        assert chosen(steps, "3,1") == [steps[0], steps[2]]
    with pytest.raises(InputError, match="allowed: 1, 2"):
        chosen(steps, "1,9")


def test_what_a_machine_has_too_few_gpus_for_is_said(tmp_path):
    assert said_of_machine({"device": "x"}, tmp_path, 1)[2:] == [
        "step 6 (ports) is left out: it needs two GPUs, here are 1"
    ]
    assert len(said_of_machine({"device": "x"}, tmp_path, 2)) == 2


def test_packages_that_are_missing_are_named_with_what_they_cost(monkeypatch):
    monkeypatch.setattr("moe_replay.collect.quick.machine.LATER", ("no_simulator",))
    lines = said_of_packages([step("one", packages=("numpy",)), step("two", packages=("no_such",), number=2)])
    assert [line.split(" (")[0] for line in lines[:1]] == ["step 2"]
    assert "no_such" in lines[0]
    assert "no_simulator" in lines[1]


def test_a_damaged_journal_is_refused(tmp_path):
    (tmp_path / "quick.json").write_text("[]")
    with pytest.raises(InputError, match="no journal"):
        Journal(tmp_path / "quick.json", {})


BLOCKED = ("simpy", "numba", "llvmlite", "matplotlib", "joblib", "scipy", "transformers", "sklearn", "seaborn", "dask")


def test_collect_imports_without_what_only_later_stages_need():
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocker())
import moe_replay.collect.__main__
print(len(moe_replay.collect.__main__.application().registered_commands))
print([name for name in ("torch", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 20
