"""Rooflines: by hand, exact between their corners, and under everything that was measured on that GPU."""

import numpy as np
import pytest

from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.rooflines.expert_roofline import ExpertShape, roofline_table
from moe_replay.traces.rooflines.gpu_peaks import BYTES, GPUS
from moe_replay.traces.runs.cost_table import load_costs
from moe_replay.traces.shipped import shipped_costs

QWEN = ExpertShape(2048, 768, "bfloat16", 128, 8)


def test_an_expert_by_hand():
    table = roofline_table(QWEN, "h100", 65_536)
    weights = 3 * 2048 * 768
    assert QWEN.expert_bytes == table.header["expert_bytes"] == 2 * weights
    # One token: 9.4 MB of weights and 8 kB of values at 3.35 TB/s.
    assert table.service_ns(0, 1, 1) == round((2 * weights + 2 * 2 * 2048) / 3350)
    # 65,536 tokens: 618 TFLOP at 989.5 TFLOP/s.
    assert table.service_ns(0, 1, 65_536) == pytest.approx(65_536 * 2 * weights / 989.5e3, rel=1e-9, abs=1)


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("shape", [(2048, 768), (4096, 14336), (64, 32)])
def test_between_the_corners_it_is_the_larger_of_both_bounds(gpu, dtype, shape):
    if dtype not in GPUS[gpu].flops:
        return
    table, width = roofline_table(ExpertShape(*shape, dtype, 64, 8), gpu, 20_000), shape[0]
    weights, size, peaks = 3 * shape[0] * shape[1], BYTES[dtype], GPUS[gpu]
    for n in (1, 2, 7, 50, 295, 296, 297, 298, 299, 300, 1000, 12_345, 20_000):
        compute_ns = 1e9 * 2 * n * weights / peaks.flops[dtype]
        memory_ns = 1e9 * size * (weights + 2 * n * width) / peaks.bytes_per_s
        assert table.service_ns(0, 1, n) == pytest.approx(max(compute_ns, memory_ns, 1), abs=1.5)


@pytest.mark.parametrize("name", [name for name in shipped_costs() if name.startswith("nvidia-h200/")])
def test_no_measured_batch_is_faster_than_the_roofline(name):
    measured = load_costs(shipped_costs()[name])
    model = measured.header["model"]
    shape = ExpertShape(model["width"], model["hidden"], model["dtype"], model["experts"], model["k"])
    tokens, mean_ns = measured.curve(0, 1)
    table = roofline_table(shape, "h200", int(tokens.max()))
    ratio = np.array([ns / table.service_ns(0, 1, int(n)) for n, ns in zip(tokens, mean_ns, strict=True)])
    assert ratio.min() > 1
    if name.endswith("-alone"):  # as the READMEs say: 1.3 to 10 times
        assert 1.3 < ratio.min() < ratio.max() < 10.3


def test_kernels_that_reach_half_of_it_take_twice_as_long():
    whole, half = (roofline_table(QWEN, "h200", 4096, share) for share in (1, 0.5))
    for n in (1, 200, 4096):
        assert half.service_ns(0, 1, n) == pytest.approx(2 * whole.service_ns(0, 1, n), abs=2)


def test_what_has_no_published_rate_is_refused():
    with pytest.raises(InputError, match="a100 has no published rate of float8; allowed: float32, bfloat16, float16"):
        roofline_table(ExpertShape(64, 64, "float8", 8, 2), "a100", 16)
    with pytest.raises(InputError, match="unknown GPU 'h1000'"):
        roofline_table(QWEN, "h1000", 16)


def test_a_what_if_with_the_estimate_is_marked_as_one(tmp_path, monkeypatch, capsys):
    from moe_replay.simulate.__main__ import app as simulate
    from moe_replay.traces.__main__ import app

    monkeypatch.chdir(tmp_path)
    line = "roofline --gpu h100 --width 2048 --hidden 768 --experts 8 --k 2 --out h100.parquet"
    assert status_of(app, "traces", line.split()) == 0
    said = capsys.readouterr().out
    assert "nothing: a roofline estimate from peak rates of H100 SXM (989.5 TFLOP/s, 3,350 GB/s" in said
    assert "2.82 us for a token; bound by memory up to 397 tokens" in said
    assert (
        status_of(
            app,
            "traces",
            ["make", "toy.trace.parquet", "--sequences", "5", "--layers", "2", "--experts", "8", "--k", "2"],
        )
        == 0
    )
    run = "run toy.trace.parquet --costs h100.parquet --queue-size 4 --arrivals closed --in-flight 4 --out runs"
    assert status_of(simulate, "simulate", run.split()) == 0
    assert "a roofline estimate" in capsys.readouterr().out
    assert status_of(app, "traces", line.replace("h100 ", "h99 ").split()) == 2
