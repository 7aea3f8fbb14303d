"""What a folder of logs asks of the simulator, and that one simulation that fails leaves the others their chance."""

import shutil
import sys

import numpy as np
import pytest

from moe_replay.simulate.__main__ import app
from moe_replay.simulate.commands import logs_command
from moe_replay.simulate.sweeps.log_questions import questions_of
from moe_replay.traces.command_line import command
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.shipped import shipped_served

LISTED = """
like LOGS/cpu/images/executed LOGS/cpu/images/wide.trace.parquet --costs LOGS/cpu/images/costs.parquet
 --replications 7 --jobs 1 --out OUT/cpu/images
like LOGS/cpu/images/serving LOGS/cpu/images/rules --costs LOGS/cpu/images/served.costs.parquet
 --replications 7 --jobs 1 --out OUT/cpu/images/serving
open-loop LOGS/cpu/images/served.trace.parquet LOGS/cpu/images/rules --costs LOGS/cpu/images/served.costs.parquet
 --sequences 2000 --replications 7 --jobs 1 --out OUT/cpu/images/open_loop/served
place LOGS/cpu/images/wide.trace.parquet PLANNERS --out OUT/cpu/images/placed/wide
like LOGS/cpu/text/memory-executed LOGS/cpu/text/language-stepwise.trace.parquet
 --known LOGS/cpu/text/language-prefill.trace.parquet --costs LOGS/cpu/text/memory-costs --jobs 1
 --out OUT/cpu/text/memory-simulated
miss-curves LOGS/cpu/text/language-stepwise.trace.parquet --out OUT/cpu/text/misses/language-stepwise.csv
place LOGS/cpu/text/training/unbalanced.loads.parquet PLANNERS --out OUT/cpu/text/placed/training
rebalance LOGS/cpu/text/training/unbalanced.loads.parquet --method smartmoe --devices 8 --interval 0,1,5,20,50
 --threshold 1,1.1 --points --out OUT/cpu/text/rebalanced/unbalanced.csv
all-to-all LOGS/gpu/cluster/ports.parquet --out OUT/gpu/cluster/all-to-all.parquet
like LOGS/gpu/shape/executed LOGS/gpu/shape/executed.trace.parquet --costs LOGS/gpu/shape/costs.parquet
 --replications 7 --jobs 1 --out OUT/gpu/shape
like LOGS/gpu/shape/memory-executed LOGS/gpu/shape/memory.trace.parquet --costs LOGS/gpu/shape/memory-costs --jobs 1
 --out OUT/gpu/shape/memory-simulated
"""
PLANNERS = (
    "--devices 8 --method contiguous,greedy,anti-correlation,anti-correlation=0.02,lpt,eplb,bound --redundant 0,8"
    " --batch 128"
)
FILES = (
    "cpu/images/executed/", "cpu/images/wide.trace.parquet", "cpu/images/rules/served-k1.trace.parquet",
    "cpu/images/rules/base-k1.trace.parquet", "cpu/images/served.costs.parquet", "cpu/text/memory-executed/",
    "cpu/text/language-stepwise.trace.parquet", "cpu/text/training/unbalanced.loads.parquet",
    "gpu/shape/executed/", "gpu/shape/memory-executed/",
    "gpu/shape/memory.trace.parquet", "gpu/shapes/link.parquet", "gpu/cluster/ports.parquet", "README.md",
)  # fmt: skip


@pytest.fixture
def logs(tmp_path):
    """A folder of empty logs of three kinds."""
    for name in FILES:
        path = tmp_path / "logs" / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return tmp_path / "logs"


def test_the_questions_of_every_kind_of_set(logs, tmp_path):
    found = [" ".join(each.words) for each in questions_of(logs, tmp_path / "out", 7)]
    listed = (
        LISTED.replace("PLANNERS", PLANNERS)
        .replace("LOGS", str(logs))
        .replace("OUT", str(tmp_path / "out"))
        .strip()
        .replace("\n ", " ")
    )
    assert found == listed.splitlines()


def test_a_wide_model_that_was_served_has_the_costs_of_the_set(logs, tmp_path):
    (logs / "cpu/images/rules/served-k1.trace.parquet").rename(logs / "cpu/images/rules/wide-k1.trace.parquet")
    words = questions_of(logs, tmp_path, 7)[2].words
    assert words[1:5] == (
        str(logs / "cpu/images/wide.trace.parquet"), str(logs / "cpu/images/rules"), "--costs",
        str(logs / "cpu/images/costs.parquet"),
    )  # fmt: skip


def timed(logs, tmp_path):
    """Return {file: costs} of the steps over linked devices that are asked for."""
    asked = [each.words for each in questions_of(logs, tmp_path / "out", 7) if each.words[0] == "end-to-end"]
    return {words[1].removeprefix(f"{logs}/"): words[3].removeprefix(f"{logs}/") for words in asked}


def test_steps_are_timed_where_the_layer_was_measured_and_of_loads_that_are_tokens(logs, tmp_path):
    shipped = "nvidia-h200/gpt-oss-20b-alone"
    (logs / "cpu/text/language-decode.trace.parquet").touch()
    assert timed(logs, tmp_path) == {"cpu/text/language-decode.trace.parquet": shipped}
    measured = "gpu/shapes/gpt-oss-20b-alone.costs.parquet"
    (logs / measured).touch()
    (logs / "gpu/text").mkdir()
    (logs / "gpu/text/language-prefill.trace.parquet").touch()
    assert timed(logs, tmp_path) == {"gpu/text/language-prefill.trace.parquet": measured}
    for used_k, found in ((2, {}), (1, {"cpu/text/training/unbalanced.loads.parquet": shipped})):
        model = ModelInfo(name="toy", experts=4, used_k=used_k, layer_ids=(0,))
        LoadTrace(
            model=model, data={"name": "toy", "digest": None, "note": None},
            load_SRMLE=np.ones((2, 1, 1, 1, 4), np.int64), iteration_S=np.arange(2), rank_R=np.zeros(1, np.int32),
        ).save(logs / "cpu/text/training/unbalanced.loads.parquet")  # fmt: skip
        assert timed(logs, tmp_path) == {"gpu/text/language-prefill.trace.parquet": measured} | found


def test_served_layers_are_asked_for_with_what_is_known_of_their_experts(logs, tmp_path):
    for name in ("gpt-oss-20b-vllm", "qwen3-30b-a3b-vllm"):
        shutil.copy(shipped_served()[f"nvidia-h200/{name}"], logs / "gpu/shapes" / f"{name}.served.parquet")
    (logs / "gpu/shapes/damaged-vllm.served.parquet").touch()
    for name in ("shapes/gpt-oss-20b-alone.costs.parquet", "text/language-decode.trace.parquet"):
        (logs / "gpu" / name).parent.mkdir(exist_ok=True)
        (logs / "gpu" / name).touch()
    asked = [" ".join(each.words) for each in questions_of(logs, tmp_path / "out", 7) if each.words[0] == "skew"]
    cut = "--tokens 64,2048 --steps 8"
    wanted = [
        f"skew SHAPES/damaged-vllm.served.parquet {cut} --out OUT/damaged-vllm.csv",
        f"skew SHAPES/gpt-oss-20b-vllm.served.parquet GPU/text/language-decode.trace.parquet {cut}"
        " --costs SHAPES/gpt-oss-20b-alone.costs.parquet --links h100-ndr --out OUT/gpt-oss-20b-vllm.csv",
        f"skew SHAPES/qwen3-30b-a3b-vllm.served.parquet {cut} --gpu h200 --out OUT/qwen3-30b-a3b-vllm.csv",
    ]
    places = {"SHAPES": logs / "gpu/shapes", "GPU": logs / "gpu", "OUT": tmp_path / "out/gpu/shapes/skew"}
    for word, place in places.items():
        wanted = [each.replace(word, str(place)) for each in wanted]
    assert asked == wanted


def test_what_cannot_be_told_apart_is_refused(logs, tmp_path):
    (logs / "cpu/images/rules/wide-k1.trace.parquet").touch()
    with pytest.raises(InputError, match="images/rules: holds rules of wide and served; allowed: those of one model"):
        questions_of(logs, tmp_path, 7)
    for empty in (tmp_path / "none", logs / "gpu" / "shapes"):
        with pytest.raises(InputError, match="holds no logs; allowed: a folder of DEVICE/DATA folders"):
            questions_of(empty, tmp_path, 7)


def test_one_that_fails_leaves_the_others_their_chance(logs, tmp_path, monkeypatch, capsys):
    script = tmp_path / "stage.py"
    script.write_text(
        "import sys; print('simulating 1/1'); print('said', sys.argv[1]); sys.exit('memory' in sys.argv[2])"
    )
    monkeypatch.setattr(logs_command, "stage_words", lambda stage: (sys.executable, "-S", str(script)))
    words = ["logs", str(logs), "--out", str(tmp_path / "out"), "--replications", "3", "--jobs", "2"]
    assert command.status_of(app, "simulate", words) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "== simulate: 11 questions side by side, 3 replications of every configuration"
    assert said[1:3] == ["== simulate: what would each executed run of cpu/images have cost?", "said like"]
    assert sum(line.startswith("said") for line in said) == 11
    script.write_text("")
    assert command.status_of(app, "simulate", words) == 0


def test_listing_runs_nothing(logs, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.status_of(app, "simulate", ["logs", str(logs), "--out", str(out), "--list"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 11
    assert all(line.startswith("python -m simulate ") for line in said)
    assert not out.exists()
