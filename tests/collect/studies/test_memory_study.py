"""The memory study: what it says of a batch is what the batch holds, and the command refuses what makes no sense."""

import csv
import json
from contextlib import nullcontext

import pytest
import torch
from cuda_stand_in import stand_in_for_cuda
from typer.testing import CliRunner

from moe_replay.collect.commands import classifier_commands, dispatch_memory_command  # noqa: F401 - registers their commands
from moe_replay.collect.commands.app import app
from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.real_layers.layer_shapes import LayerShape
from moe_replay.collect.studies.gating_memory_cases import (
    PUBLISHED,
    Grid,
    shape_cases,
    skewed_cases,
    trained_cases,
    zipf_selection,
)
from moe_replay.collect.studies.gating_memory_study import measure_case
from moe_replay.collect.training.classifier_training import restore
from moe_replay.traces.errors import InputError

CPU = torch.device("cpu")
CAPACITIES = tuple(Capacity.parse(word) for word in ("CS:1", "CS/E:1", "CSk/E:1.2"))


def measured(grid, repetitions=1, most_bytes=1e9):
    return [row for case in skewed_cases(grid, 0, CPU) for row in measure_case(case, repetitions, most_bytes, 0)]


@pytest.fixture(scope="module")
def rows():
    return measured(Grid((20, 50), (4, 8), (1, 2), CAPACITIES, ("mt",), width=24, hidden=40))


def test_every_dispatch_and_capacity_has_a_row(rows):
    assert len(rows) == 2 * (1 + 2) + 2 * 2 * 2 * (len(CAPACITIES) + 2)
    assert {row.status for row in rows} == {"ok"}
    assert Grid((20, 50), (4, 8), (1, 2), CAPACITIES, ("mt",)).cases == 2 * (1 + 2 * 2)


def test_peaks_are_what_was_predicted_and_the_output_is_what_stays(rows):
    for row in rows:
        assert row.peak_bytes == row.predicted_peak_bytes
        assert row.current_bytes == 4 * row.batch * row.width


def test_static_computes_its_slots_and_the_others_what_was_chosen(rows):
    for row in rows:
        assert row.choices == row.batch * row.k
        assert row.rows == (row.choices if row.slots is None else row.experts * row.slots)
        assert row.expert_rows_mean == pytest.approx(row.rows / row.experts)
        if row.slots is not None:
            assert row.expert_rows_max == row.slots
            assert row.rows / row.choices == pytest.approx(row.waste_predicted, abs=row.experts / row.choices)


def test_an_experts_bytes_are_those_of_its_rows(rows):
    """Input and output stay (M + O), the hidden rows are there while it runs (H)."""
    for row in rows:
        for which, count in (("mean", row.expert_rows_mean), ("max", row.expert_rows_max)):
            current, peak = (getattr(row, f"expert_{name}_bytes_{which}") for name in ("current", "peak"))
            assert current == pytest.approx(4 * count * 2 * row.width)
            assert peak == pytest.approx(4 * count * (2 * row.width + row.hidden))


def test_the_published_ratios_are_those_of_the_paper():
    waste = {name: model.capacity.waste(model.experts, model.k) for name, model in PUBLISHED.items()}
    assert waste == {"lm": 12.8, "mt": 64.0}


def test_what_does_not_fit_is_skipped_with_a_reason():
    rows = measured(Grid((200,), (4,), (2,), CAPACITIES[:2], width=24, hidden=40), most_bytes=500_000)
    assert [row.status for row in rows] == ["skipped", "ok", "ok", "ok"]
    assert rows[0].reason.startswith("needs 0.00 GiB, allowed")
    assert rows[0].peak_bytes is None
    assert rows[0].predicted_peak_bytes > 500_000 > rows[1].peak_bytes


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_first_choices_follow_the_stated_skew(exponent):
    """Counts of the ranks against p ~ r ** -a, within 4 standard errors; sharp enough to tell a = 0 from 1."""
    tokens, experts = 20_000, 8
    weights_NK, experts_NK = zipf_selection(tokens, experts, 3, exponent, torch.Generator().manual_seed(5))
    assert (experts_NK.sort(1).values.diff(dim=1) > 0).all()
    torch.testing.assert_close(weights_NK.sum(1), torch.ones(tokens))
    assert (weights_NK.diff(dim=1) <= 0).all()
    expected = torch.arange(1, experts + 1).double() ** -exponent
    expected /= expected.sum()
    found = torch.bincount(experts_NK[:, 0], minlength=experts).double().sort(descending=True).values / tokens
    error = (expected * (1 - expected) / tokens).sqrt()
    assert ((found - expected).abs() < 4 * error).all()
    assert 4 * error.max() < 0.02


def test_a_trained_gate_is_measured_on_real_inputs(trained, blobs):
    model, _, trace = trained
    grid = Grid((30, 150), (16,), (2, 9), CAPACITIES)
    cases = list(trained_cases(model, torch.from_numpy(blobs.test_NF), "blobs", grid))
    assert [(case.sizes.tokens, case.sizes.k, case.sizes.experts) for case in cases] == [(30, 2, 6), (150, 2, 6)]
    assert (cases[1].experts_NK.numpy() == trace.experts_TLK[:, 0, :2]).mean() > 0.99
    assert cases[1].weights_bytes == sum(parameter.nbytes for parameter in model.experts[0].parameters())
    with pytest.raises(InputError, match=r"--batch 151: allowed 1..150"):
        list(trained_cases(model, torch.from_numpy(blobs.test_NF), "blobs", Grid((151,), (16,), (2,), CAPACITIES)))


def run(*words):
    return CliRunner().invoke(app, ["dispatch-memory", *map(str, words)])


def test_the_command_writes_a_table_and_how_it_was_made(tmp_path):
    words = ["--batch", "20", "--experts", "4", "--k", "2", "--like", "none", "--repetitions", "2", "--device", "cpu"]
    done = run("--out", tmp_path / "memory.csv", *words)
    assert done.exit_code == 0, done.output
    with open(tmp_path / "memory.csv") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["dispatch"] for row in rows].count("static") == len(rows) - 2 == 5
    assert all(float(row["median_ms"]) > 0 and row["repetitions"] == "2" for row in rows)
    about = json.loads((tmp_path / "memory.json").read_text())
    assert about["provenance"]["seed"] == 0
    assert about["device"].startswith("cpu")


def test_a_trained_checkpoint_joins_the_table(tmp_path, monkeypatch):
    from moe_replay.collect.models.classifier import CONFIGURATIONS, ClassifierConfig

    monkeypatch.setitem(CONFIGURATIONS, "tiny", ClassifierConfig(layers=1, experts=4, k=2, width=16, hidden=16))
    made = ["--data", "digits", "--train-images", "200", "--test-images", "60"]
    train = CliRunner().invoke(
        app, ["train", "--config", "tiny", "--epochs", "1", "--out", str(tmp_path / "m.pt"), *made]
    )
    assert train.exit_code == 0, train.output
    words = [
        "--batch",
        "30",
        "--experts",
        "4",
        "--k",
        "2",
        "--like",
        "none",
        "--repetitions",
        "1",
        "--test-images",
        "60",
    ]
    words += ["--checkpoint", tmp_path / "m.pt", "--data", "digits", "--train-images", "200"]
    done = run("--out", tmp_path / "memory.csv", *words)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "memory.csv").read_text()
    assert "trained noisy-top-k" in text
    assert json.loads((tmp_path / "memory.json").read_text())["data"]["name"] == "digits"
    assert restore(tmp_path / "m.pt")[0].config.experts == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--capacity", "C*S:1"], "unknown capacity convention"),
        (["--capacity", "CS:0"], "capacity factor is 0.0, allowed > 0"),
        (["--like", "gpt"], "unknown published model 'gpt'; known: lm, mt, none"),
        (["--k", "8", "--experts", "4"], r"k = 8, allowed 1..4"),
        (["--batch", "0"], "--batch: 0 is not allowed"),
        (["--experts", "four"], "--experts: 'four' is no int"),
        (["--checkpoint", "nowhere.pt", "--data", "digits"], "nowhere.pt: no such checkpoint"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path):
    done = run("--out", tmp_path / "memory.csv", *words)
    assert isinstance(done.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise done.exception
    assert not (tmp_path / "memory.csv").exists()


@pytest.mark.parametrize("batch", [7, 60])
def test_peaks_of_a_gated_layer_are_what_was_predicted(batch):
    """Gate, up and their product are there at once (3 H) while an expert runs, in bfloat16."""
    shape = LayerShape("tiny", 96, 160, 4, 2)
    grid = Grid((batch,), (16,), (1,), CAPACITIES)
    rows = [row for case in shape_cases(shape, grid, 0, CPU) for row in measure_case(case, 1, 1e9, 0)]
    assert len(rows) == len(CAPACITIES) + 2
    for row in rows:
        assert (row.like, row.experts, row.k, row.width, row.hidden) == ("tiny", 4, 2, 96, 160)
        assert row.peak_bytes == row.predicted_peak_bytes
        assert row.current_bytes == 2 * row.batch * row.width
        assert row.expert_peak_bytes_max == 2 * row.expert_rows_max * (2 * 96 + 3 * 160)
        assert row.weights_bytes == 4 * shape.expert_bytes(torch.bfloat16)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_layer_shape_takes_the_place_of_the_grid(tmp_path, device):
    words = ["--shape", "gpt-oss-20b", "--scale", 64, "--batch", "16,64", "--repetitions", 1, "--device", device]
    with stand_in_for_cuda() if device == "cuda" else nullcontext():
        done = run("--out", tmp_path / "memory.csv", *words)
    assert done.exit_code == 0, done.output
    with open(tmp_path / "memory.csv") as opened:
        rows = list(csv.DictReader(opened))
    assert {(row["like"], row["experts"], row["k"]) for row in rows} == {("gpt-oss-20b-by-64", "32", "4")}
    assert len(rows) == 2 * (5 + 2)
    assert all(int(row["peak_bytes"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shape", "olmoe", "--k", "2"], "--k has no meaning with --shape"),
        (["--shape", "gpt-oss"], "unknown layer shape 'gpt-oss'; known:"),
        (["--scale", "2"], "--scale has a meaning only with --shape"),
    ],
)
def test_what_a_shape_fixes_is_refused(tmp_path, words, message):
    assert message in str(run("--out", tmp_path / "memory.csv", "--device", "cpu", *words).exception)
