"""`python -m traces` as a user meets it: what it prints, where, and with which status."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_traces import random_trace

from moe_replay.traces.file.trace_file import load_trace, parts_folder, save_trace

ROOT = Path(__file__).resolve().parents[2]


def test_make_check_describe(traces, tmp_path):
    status, made, errors = traces("make a.trace.parquet --sequences 4 --prompt 3-5 --decode 2 --seed 7")
    assert (status, errors) == (0, "")
    trace = load_trace("a.trace.parquet")
    assert made == f"a.trace.parquet: {trace.T:,} tokens, digest {trace.digest}\n"
    assert trace.header.provenance["seed"] == 7
    assert trace.header.provenance["command"].startswith("python -m traces make a.trace.parquet")
    status, checked, errors = traces("check a.trace.parquet")
    assert checked == (
        f"a.trace.parquet: ok, {trace.T} tokens x 4 layers x 4 of 16 experts, 4 sequences, digest {trace.digest}\n"
    )
    status, described, errors = traces("describe a.trace.parquet --k 2")
    assert (status, errors) == (0, "")
    assert described.startswith("a.trace.parquet\n")
    assert "Load at k=2" in described


@pytest.mark.parametrize(
    ("lengths", "tokens"), [("", 2016), ("--prompt 1-9 --decode 0", 2000), ("--prompt 5 --decode 0", 2000)]
)
def test_make_takes_a_number_of_tokens(traces, lengths, tokens):
    assert traces(f"make x --tokens 2000 {lengths}")[0] == 0
    made = len(load_trace("x").sequence_T)
    assert made == pytest.approx(tokens, rel=0.1 if "1-9" in lengths else 0)
    assert traces("make x --tokens 9 --sequences 9")[2] == "traces: --sequences and --tokens: allowed one of them\n"


def test_the_same_command_makes_the_same_bytes(traces):
    for folder in ("a", "b"):
        Path(folder).mkdir()
        assert traces(f"make {Path(folder).resolve()}/x.trace.parquet --sequences 3")[0] == 0
    assert Path("a/x.trace.parquet").read_bytes() == Path("b/x.trace.parquet").read_bytes()


def test_a_recording_in_progress_can_be_described_and_checked(traces, rng):
    save_trace(random_trace(rng), parts_folder(Path("x.trace.parquet")) / "part-000000.parquet")
    assert traces("describe x.trace.parts")[0] == 0
    assert traces("check x.trace.parts")[1].startswith("x.trace.parts: ok, 40 tokens")


def test_good_files_before_a_bad_one_are_reported(traces, rng):
    save_trace(random_trace(rng), "good")
    status, printed, errors = traces("check good absent")
    assert status == 2
    assert printed.startswith("good: ok")
    assert errors == "traces: absent: no such file\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("describe x --k 0", "'--k'"),
        ("make x --k seventeen", "'--k'"),
        ("make x --k 17", "k is 17, allowed 1..16, the experts"),
        ("make x --prompt 5-3", "prompt is 5..3, allowed 1 <= low <= high"),
        ("make x --decode few", "--decode is 'few', allowed a number of tokens, or low-high"),
        ("make x --reuse 2", "'--reuse'"),
        (
            "make x --alhpa 2",
            "known: --layers, --experts, --k, --alpha, --reuse, --sequences, --tokens, --prompt, --decode",
        ),
        ("make", "Missing argument"),
        ("chek x", "known: arrivals, check, compact, describe, export, import, import-costs, make"),
    ],
)
def test_wrong_options_get_one_line_and_status_2(traces, words, says):
    status, printed, errors = traces(words)
    assert (status, printed) == (2, "")
    assert errors.startswith("traces: ")
    assert errors.count("\n") == 1
    assert says in errors
    assert not Path("x").exists()


@pytest.mark.parametrize(("words", "limit"), [("make x --reuse 2", "<= 1"), ("make x --experts 0", ">= 1")])
def test_values_out_of_range_name_the_range(traces, words, limit):
    status, _, said = traces(words)
    assert status == 2
    assert limit in said.partition("allowed: ")[2]


@pytest.mark.parametrize("command", ["describe", "check", "make"])
def test_help_has_an_example_that_runs(traces, command, rng):
    save_trace(random_trace(rng), "logs/base.trace.parquet")
    status, printed, _ = traces(f"{command} --help")
    assert status == 0
    example = re.search(r"Example: python -m traces ([^│]+?)\s{2,}", " ".join(printed.split("\n")))
    words = " ".join(str(path) for word in example[1].split() for path in (sorted(Path().glob(word)) or [word]))
    assert words.startswith(f"{command} ")
    assert traces(words)[0] == 0


def test_what_the_system_refuses_is_one_line_and_status_2(traces):
    Path("file").write_text("")
    status, printed, errors = traces("make file/x.trace.parquet")
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert errors == "traces: file/x.trace.parquet: file is a file, allowed a folder to write in\n"


def test_without_arguments_the_help_is_printed(traces):
    _, printed, errors = traces("")
    assert "Usage: python -m traces" in printed + errors


def test_as_a_process(tmp_path, rng):
    trace = random_trace(rng)
    save_trace(trace, tmp_path / "x")
    command = [sys.executable, "-m", "traces", "check", str(tmp_path / "x")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"digest {trace.digest}\n")


def test_statistics_of_fewer_ranks_do_not_stand_among_those_of_more(traces):
    """An engine reads every rank's file in the folder: an old one beside new ones would count twice."""
    assert traces("make x.trace.parquet --sequences 3")[0] == 0
    assert traces("export tensorrt-llm x.trace.parquet --out statistics")[0] == 0
    assert traces("export tensorrt-llm x.trace.parquet --out statistics")[0] == 0
    Path("statistics/rank1.safetensors").write_text("of another export")
    for force in ("", " --force"):
        status, _, errors = traces(f"export tensorrt-llm x.trace.parquet --out statistics{force}")
        assert (status, errors.count("\n")) == (2, 1)
        assert "holds rank1.safetensors, which would be read with the new files; allowed: a new folder" in errors


def test_a_trace_is_not_regated_onto_itself(traces):
    assert traces("make x.trace.parquet --sequences 3")[0] == 0
    before = Path("x.trace.parquet").read_bytes()
    for force in ("", " --force"):
        status, _, errors = traces(f"regate x.trace.parquet --k 1 --out x.trace.parquet{force}")
        assert (status, errors) == (
            2,
            "traces: x.trace.parquet: is an input; allowed: another output, --force or not\n",
        )
    status, _, errors = traces("make x.trace.parquet --sequences 4")
    assert status == 2
    assert "exists, made by `python -m traces make x.trace.parquet --sequences 3`; allowed: --force" in errors
    assert Path("x.trace.parquet").read_bytes() == before
    assert traces("make x.trace.parquet --sequences 4 --force")[0] == 0
