"""RUNME.sh is a table of contents: which commands it calls in every mode, with which paths, and its exit statuses."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$NOTED"
case "$*" in -c*) echo "${LACKS:-}"; exit 0 ;; esac
case "$*" in "-m ${FAILS:-none}"*) exit "${STATUS:-1}" ;; esac
"""
LATER = [
    "-m simulate logs LOGS --out OUT/simulated --replications 20",
    "-m analysis tables LOGS OUT/simulated --out OUT/tables",
    "-m figures OUT/tables --out OUT/figures",
    "-m figures report OUT --out OUT/report.html",
]


@pytest.fixture
def runme(tmp_path):
    """Call RUNME.sh from a folder of the user's with a Python that notes what it is asked; return (status, asked)."""
    python, noted = tmp_path / "python", tmp_path / "noted"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "logs" / "cpu" / "images").mkdir(parents=True)

    def run(*words, **environment):
        noted.write_text("")
        ended = subprocess.run(
            ["bash", str(ROOT / "RUNME.sh"), *words], cwd=tmp_path, capture_output=True, text=True, timeout=60,
            env={"PATH": os.environ["PATH"], "PYTHON": "./python", "NOTED": str(noted), **environment},
        )  # fmt: skip
        asked = [line for line in noted.read_text().splitlines() if not line.startswith("-c")]
        return ended.returncode, asked, ended.stderr.strip()

    return run


def expected(logs, out, *before):
    return [*before, *(line.replace("LOGS", str(logs)).replace("OUT", str(out)) for line in LATER)]


def dated(asked):
    """What was asked, where the one folder whose name tells the time is called outputs."""
    name = next(word for line in asked for word in line.split() if word.startswith("outputs_from_")).split("/")[0]
    return [line.replace(name, "outputs") for line in asked]


def test_it_is_a_table_of_contents():
    assert len((ROOT / "RUNME.sh").read_text().splitlines()) <= 150


def test_figures_from_logs(runme, tmp_path):
    status, asked, _ = runme()
    assert (status, dated(asked)) == (0, expected("traces/data", "outputs"))
    status, asked, _ = runme("logs", "logs/")
    assert (status, dated(asked)) == (0, expected(f"{tmp_path}/logs", "outputs"))
    asked = dated(runme("full", "logs")[1])
    assert asked[0].endswith("--replications 100")
    assert asked[1:] == expected(f"{tmp_path}/logs", "outputs")[1:]


def test_a_fresh_set_is_collected_and_then_the_same(runme, tmp_path):
    made = tmp_path / "made"
    collects = f"-m collect fresh --device cpu --data digits --data-dir {tmp_path}/data"
    collects += f" --out {made}/logs --models {made}/models"
    words = ("fresh", "--data", "digits", "--data-dir", "data", "--device", "cpu", "--out", "made")
    assert runme(*words) == (0, expected(made / "logs", made, collects), "")
    status, asked, _ = runme("fresh", OUT=str(made))
    collects = f"-m collect fresh --device auto --data cifar10 --out {made}/logs --models {made}/models"
    assert (status, asked) == (0, expected(made / "logs", made, collects))


def test_what_a_gpu_gives_in_minutes(runme, tmp_path):
    made = tmp_path / "made"
    quick = f"-m collect quick --device cuda --minutes 8 --out {made}/logs --models {made}/models --pack {{}}"
    words = ("fresh", "--device", "cuda", "--minutes", "8", "--out", "made")
    assert runme(*words)[:2] == (0, expected(made / "logs", made, quick.format(made / "packed")))
    asked = runme(*words, "--pack", "here", FAILS="collect quick")
    assert asked[:2] == (1, expected(made / "logs", made, quick.format(tmp_path / "here")))  # what there is counts
    assert runme(*words, FAILS="collect quick", STATUS="2")[:2] == (2, [quick.format(made / "packed")])


def test_exit_statuses(runme, tmp_path):
    for stage in ("simulate logs", "analysis", "figures"):
        status, asked, _ = runme("logs", "logs", FAILS=stage, STATUS="2")
        assert (status, len(asked)) == (1, 4)  # a stage that fails leaves a hole, the others go on
    assert runme("fresh", "--out", "made", FAILS="collect fresh", STATUS="2")[0] == 2
    status, asked, said = runme("fresh", "--out", "made", LACKS="scipy simpy")
    assert (status, len(asked)) == (3, 1)
    assert said == (
        f"RUNME.sh: the logs are safe in {tmp_path}/made/logs; this Python lacks scipy simpy, so the later stages wait"
        f" for another: ./RUNME.sh logs {tmp_path}/made/logs"
    )
    assert runme("test", "-k", "word", FAILS="pytest", STATUS="1")[:2] == (
        1, ["-m ruff check .", "-m ruff format --check .", "-m pytest -n 2 -k word"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("plot",), "unknown mode 'plot'; known: logs, full, fresh, test"),
        (("logs", "nowhere"), "nowhere: no such folder of logs"),
        (("logs", "logs/cpu"), "logs/cpu: holds no logs; allowed: a folder of DEVICE/DATA folders"),
        (("fresh", "--data"), "fresh: --data needs a value"),
        (
            ("fresh", "--minutes", "8", "--data", "digits"),
            "fresh: --data and --data-dir have no meaning with --minutes",
        ),
        (("fresh", "--data-dir", "x", "--minutes", "8"), "fresh: --data and --data-dir have no meaning with --minutes"),
        (("fresh", "--pack", "x"), "fresh: --pack has a meaning only with --minutes"),
        (
            ("fresh", "--epochs", "3"),
            "fresh: unknown option '--epochs'; known: --data, --data-dir, --device, --minutes, --out, --pack",
        ),
    ],
)
def test_bad_options(runme, tmp_path, words, line):
    status, asked, said = runme(*words)
    assert (status, asked) == (2, [])
    assert said.replace(f"{tmp_path}/", "") == f"RUNME.sh: {line}"


def test_the_data_folder_is_meant_as_the_caller_means_it(runme, tmp_path):
    script = tmp_path / "python"
    script.write_text(PYTHON + 'echo "data $MOE_REPLAY_DATA" >>"$NOTED"\n')
    assert f"data {tmp_path}/data" in runme("fresh", "--out", "made", MOE_REPLAY_DATA="data")[1]
