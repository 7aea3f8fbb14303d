"""A fresh set of logs: what every collector is asked at every scale, in which order, and what a failure ends."""

import itertools
import sys
import time
from pathlib import Path

import pytest

from moe_replay.collect.fresh import part_runs
from moe_replay.collect.fresh.asked import Call, Files, Fresh, Part
from moe_replay.collect.fresh.collectors import parts_of
from moe_replay.collect.fresh.part_runs import run_parts
from moe_replay.collect.fresh.scale import scale_for

LISTINGS = Path(__file__).with_name("listings")  # KIND-DATA.txt: every command, word for word
ASKED = [tuple(path.stem.split("-", 1)) for path in sorted(LISTINGS.glob("*.txt"))]
STAGE = """
import sys, time
from pathlib import Path
what, *words = sys.argv[1:]
with open("order.txt", "a") as opened:
    opened.write(" ".join(sys.argv[1:]) + chr(10))
if what == "sleep":
    time.sleep(float(words[0]))
if what == "write":
    Path(words[0]).write_text("made")
print("said", *sys.argv[1:])
sys.exit(int(words[-1]) if what in ("fail", "write") else 0)
"""


def fresh(kind, data, folder=Path(), clips=None, **others):
    return Fresh(
        scale_for(kind, data),
        data,
        "auto",
        "DEVICE",
        folder / "logs",
        folder / "models",
        Path("clips"),
        clips,
        **others,
    )


def commands(asked):
    return [str(call) for part in parts_of(asked) for call in (*part.beside, *part.calls)]


@pytest.mark.parametrize(("kind", "data"), ASKED)
def test_every_command_word_for_word(kind, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("static/a.mp4", "moving/b.b.avi", "moving/.hidden", "moving/folder/c.mp4"):
        clip = tmp_path / "clips" / "video" / name
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.touch()
    listed = (LISTINGS / f"{kind}-{data}.txt").read_text().splitlines()
    assert commands(fresh(kind, data, clips=Path("clips"))) == listed


def test_there_are_listings_of_both_scales_and_of_images_of_every_size():
    assert set(ASKED) >= {("cuda", "cifar10"), ("cpu", "cifar10"), ("cpu", "digits"), ("cpu", "fashion-mnist")}


def test_what_is_not_there_is_not_asked_for():
    listed = commands(fresh("cpu", "cifar10", plans=False))
    assert not [line for line in listed if "collect video" in line or "simulate plan" in line or "--plans" in line]
    assert sum("--data-dir clips" in line for line in listed) < len(listed)
    assert "--data-dir" not in " ".join(commands(Fresh(
        scale_for("cpu", "digits"), "digits", "cpu", "DEVICE", Path("logs"), Path("models")
    )))  # fmt: skip


def test_a_gpu_has_its_scale_for_small_data_too():
    assert scale_for("cuda", "digits").vision_model == scale_for("cuda", "cifar10").vision_model
    assert (scale_for("cuda", "digits").validation, scale_for("cuda", "cifar10").validation) == (300, 5000)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_digits_are_not_asked_for_more_images_than_there_are(kind):
    train, test = 1437, 360
    largest = {"--period": test, "--validation": train - 1, "--batch": train}
    found = [
        (option, int(number))
        for words in (line.split() for line in commands(fresh(kind, "digits")) if "--data digits" in line)
        for option, given in itertools.pairwise(words)
        if option in largest and not (option == "--batch" and "vision" in words[1])
        for number in given.split(",")
    ]
    assert {option for option, _ in found} >= {"--period", "--validation"}
    assert not [each for each in found if each[1] > largest[each[0]]]


def test_nothing_timed_runs_beside_anything():
    timed = {"costs", "execute", "serve", "dispatch-memory", "operating-times", "vision-times", "swap-profile", "ports"}
    for part in parts_of(fresh("cuda", "cifar10")):
        if part.beside:
            assert not {call.words[0] for call in (*part.calls, *part.beside)} & timed


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Calls run a script that notes them; return what was noted."""
    script = tmp_path / "stage.py"
    script.write_text(STAGE)
    monkeypatch.setattr(part_runs, "stage_words", lambda stage: (sys.executable, "-S", str(script)))
    monkeypatch.chdir(tmp_path)
    return lambda: (tmp_path / "order.txt").read_text().splitlines()


def test_parts_run_in_order_and_the_first_failure_ends_all(stage, capfd):
    parts = [
        Part("one: first", (Call(("a",)), Call(("b",))), beside=(Call(("c",)), Call(("d",)))),
        Part("", (Call(("fail", 3)), Call(("never",)))),
        Part("two: never", (Call(("never",)),)),
    ]
    assert run_parts(parts) == 3
    noted = stage()
    assert [name for name in noted if name in "ab"] == ["a", "b"]
    assert [name for name in noted if name in "cd"] == ["c", "d"]
    assert noted[-1] == "fail 3"
    said = capfd.readouterr().out.splitlines()
    assert said[0] == "== collect one: first"
    assert said.index("said d") == said.index("said c") + 1
    assert "never" not in " ".join(said)


def test_a_failure_ends_what_runs_beside_and_a_failure_beside_counts(stage):
    began = time.monotonic()
    parts = [Part("", (Call(("fail", 4)),), beside=(Call(("sleep", 60)), Call(("never",))))]
    assert run_parts(parts) == 4
    assert time.monotonic() - began < 30
    assert run_parts([Part("", (Call(("a",)),), beside=(Call(("fail", 5)), Call(("never",))))]) == 5
    assert "never" not in stage()


def test_a_file_that_is_there_counts_more_than_an_exit_status(stage, tmp_path):
    made = tmp_path / "plans.csv"
    call = Call(("write", made, 1), "simulate", made)
    assert run_parts([Part("", (call, call))]) == 0
    assert len(stage()) == 1
    assert run_parts([Part("", (Call(("fail", 1), "simulate", tmp_path / "none.csv"),))]) == 1


def test_files_of_an_earlier_command_are_looked_for_when_they_are_needed(tmp_path):
    files = Files(tmp_path / "wide-*.parquet")
    assert files.found() == [str(files)]
    for name in "ba":
        (tmp_path / f"wide-{name}.parquet").touch()
    assert Call(("serve", files, "--k", 1)).vector() == [
        "serve", *(str(tmp_path / f"wide-{name}.parquet") for name in "ab"), "--k", "1",
    ]  # fmt: skip
