"""`python -m simulate memory`: lists of all that is swept, each combination once, and what cannot be is refused."""

from itertools import product

import numpy as np
import pytest

from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

WORDS = ("--affine", "2000,100", "--cache", "lru", "--expert-bytes", "1kB", "--no-explain", "--jobs", 1)
OF_MEMORY = ("slots", "miss", "link_bytes_per_s", "link_latency_ns")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Six sequences; two layers of five experts, two selected per token."""
    spec = SyntheticSpec(layers=2, experts=5, k=2, sequences=6, prompt=(3, 5), decode=(4, 6))
    path = tmp_path_factory.mktemp("memory") / "toy.trace.parquet"
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, path)
    return path


def configs(folder):
    return [load_run(folder, name).header["config"] for name in run_names(folder)]


def test_queues_loops_slots_and_links_are_lists(simulate, toy, tmp_path):
    """Two values of each of six: 16 memories under each of 4 loops, and each loop with all experts resident."""
    listed = ("--scheduler", "queues", "--queue-size", "1,4", "--in-flight", "2,1e1", "--slots", "1,2", "--miss",
              "load,block", "--bandwidth", "1GB/s,inf", "--latency", "0,5us")  # fmt: skip
    status, _, said = simulate("memory", toy, *WORDS, *listed, "--out", tmp_path / "runs")
    assert status == 0, said
    found = configs(tmp_path / "runs")
    kept = [each for each in found if each.get("memory")]
    asked = {(each["queue_size"], each["in_flight"], *(each["memory"][name] for name in OF_MEMORY)) for each in kept}
    assert asked == set(product((1, 4), (2, 10), (1, 2), ("load", "block"), (1e9, float("inf")), (0, 5000)))
    assert len(kept) == 64
    assert len(found) == 64 + 4


def test_steps_rates_and_k_are_lists(simulate, toy, tmp_path):
    status, _, said = simulate("memory", toy, *WORDS, "--max-step", "1,4", "--arrivals", "poisson", "--rate", "1e3,2e3",
                               "--k", "1,2", "--out", tmp_path / "runs")  # fmt: skip
    assert status == 0, said
    found = configs(tmp_path / "runs")
    asked = {(each["max_step"], each["rate_per_s"], each["k"], bool(each.get("memory"))) for each in found}
    assert asked == set(product((1, 4), (1e3, 2e3), (1, 2), (True, False)))
    assert {each["seed"] for each in found} == {0}
    assert len(found) == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bandwidth", "1GB/s,x"), "simulate: --bandwidth: 'x' is no bandwidth; allowed: bandwidths such as 25GB/s"),
        (("--bandwidth", "1,0"), "simulate: --bandwidth: 0 is not allowed; allowed: bandwidths such as"),
        (("--latency", "-1"), "simulate: --latency: -1 is not allowed; allowed: times such as"),
        (("--queue-size", "1,0"), "simulate: --queue-size: 0 is not allowed; allowed: numbers >= 1"),
        (("--in-flight", "two"), "simulate: --in-flight: 'two' is no int"),
        (("--arrivals", "poisson"), "simulate: arrivals 'poisson' needs --rate\n"),
        (("--link", "x", "--latency", "1,2"), "simulate: --link: allowed without --bandwidth and --latency"),
    ],
)
def test_what_cannot_be_is_one_line(simulate, toy, tmp_path, words, message):
    status, _, said = simulate("memory", toy, *WORDS, *words, "--out", tmp_path / "runs")
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith(message), said
    assert not (tmp_path / "runs").exists()
