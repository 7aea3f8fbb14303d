"""Exchanges between processes: their patterns, the pace of a port, the fitted link, and whole runs in small."""

import itertools
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from moe_replay.collect.__main__ import application
from moe_replay.collect.commands.ports_command import ExchangeOptions
from moe_replay.collect.ports import pacing
from moe_replay.collect.ports.device_group import DeviceGroup
from moe_replay.collect.ports.exchange_ways import ON_CPU, WAYS, Way
from moe_replay.collect.ports.link_fit import fit_link
from moe_replay.collect.ports.pacing import BURST_NS, Pace
from moe_replay.collect.ports.patterns import patterns_of
from moe_replay.simulate.__main__ import app as simulate_app
from moe_replay.simulate.policies.cluster.one_exchange import exchanged, one_link
from moe_replay.traces.clusters.link_file import read_links
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.runs.port_log import CALIBRATION, CHECK, exchanges_in, load_port_log
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


def invoke(*words):
    """Run a command in this process."""
    return CliRunner().invoke(application(), list(map(str, words)))


@pytest.mark.parametrize("devices", [2, 3, 4, 8])
def test_patterns_go_from_balanced_to_all_to_one_and_none_is_fitted_and_checked(devices):
    fitted, checked = (patterns_of(purpose, devices, 1000, 0) for purpose in (CALIBRATION, CHECK))
    assert len(checked) >= 12
    for one, other in itertools.combinations([*fitted.values(), *checked.values()], 2):
        assert not np.array_equal(one, other)
    assert all(np.diagonal(each).sum() == 0 for each in (fitted | checked).values())
    total = devices * (devices - 1) * 1000
    assert checked["balanced"].tolist() == [[1000 * (i != j) for j in range(devices)] for i in range(devices)]
    assert checked["all-to-one"][:, 0].sum() == checked["one-to-all"][0].sum() == total
    kept = [name for name in checked if not name.startswith(("draw", "balanced-"))]
    assert all(abs(checked[name].sum() - total) <= devices**2 for name in kept)
    assert [int((each > 0).sum()) for name, each in fitted.items() if name.startswith("lone")] == [1] * 6
    again = patterns_of(CHECK, devices, 1000, 1)
    assert not np.array_equal(again["draw-0"], checked["draw-0"])
    assert np.array_equal(again["balanced"], checked["balanced"])


class Clock:
    """Stands in for `time`: a sleep takes what it is asked for and `late_ns` more."""

    def __init__(self):
        self.now_ns, self.late_ns = 0, 0

    def monotonic_ns(self):
        return self.now_ns

    def sleep(self, seconds):
        self.now_ns += round(seconds * 1e9) + self.late_ns


def test_a_pace_makes_up_for_late_sleeps_and_loses_what_is_longer_than_a_burst(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    pace = Pace(1e6, 0)  # a byte a microsecond
    clock.late_ns = 300_000
    for _ in range(100):
        pace.let_pass(1000)
    assert 100_000_000 <= clock.now_ns <= 100_300_000  # 100 ms, whatever each sleep was late by
    clock.late_ns, clock.now_ns = 0, 100_000_000 + 2 * BURST_NS  # kept from its work for two bursts
    for _ in range(20):
        pace.let_pass(1000)
    assert clock.now_ns == 100_000_000 + BURST_NS + 20_000_000
    clock.now_ns = 10**12
    Pace(None, 0).let_pass(10**9)
    assert clock.now_ns == 10**12


@pytest.mark.parametrize(("rate", "size"), [(20e6, 16384), (1e3, 4096), (1e12, 256 << 10), (None, 256 << 10)])
def test_pieces_are_about_a_millisecond_long(rate, size):
    assert Pace(rate, 0).chunk_bytes == size


@pytest.mark.parametrize(("latency_ns", "bytes_per_s"), [(0, 2e7), (80_000, 2e7), (25_000, 1.5e11), (5_000_000, 1e8)])
def test_a_fit_finds_the_link_that_made_the_times(latency_ns, bytes_per_s):
    sizes = [each for devices in (2, 4) for each in patterns_of(CALIBRATION, devices, 2_000_000, 3).values()]
    took_ns = [max(m.end_ns for m in exchanged(each, one_link(latency_ns, bytes_per_s))) for each in sizes]
    found = fit_link(sizes, took_ns)
    shortest = min(took_ns)
    assert found["bytes_per_s"] == pytest.approx(bytes_per_s, rel=2e-3)
    assert abs(found["latency_ns"] - latency_ns) <= 2e-3 * shortest + 1
    assert found["error_percent"] < 0.1
    factor = np.random.default_rng(0).choice([0.9, 1.1], len(took_ns))
    noisy = fit_link(sizes, np.array(took_ns) * factor)
    assert 5 < noisy["error_percent"] < 12
    assert noisy["bytes_per_s"] == pytest.approx(bytes_per_s, rel=0.15)


def test_a_run_in_small_and_the_link_file_that_it_leaves(tmp_path, monkeypatch):
    """A port carries no more than its pace, and every byte is carried; a busy machine may take longer."""
    monkeypatch.chdir(tmp_path)
    words = ("ports", "--devices", "2,3", "--way", "paced", "--bandwidth", "20MB/s", "--message", "60kB",
             "--repetitions", 2, "--out", "ports.parquet", "--links-out", "mine.toml")  # fmt: skip
    monkeypatch.setattr("sys.argv", ["collect/__main__.py", *map(str, words)])
    said = invoke(*words)
    assert said.exit_code == 0, said.output
    table, header = load_port_log("ports.parquet")
    messages = table.to_pandas()
    assert header["ways"]["paced"]["buffer_bytes"] > 0
    assert (header["devices"], header["repetitions"], header["device"][:3]) == ([2, 3], 2, "cpu")
    assert (messages["start_ns"] >= 0).all()
    assert (messages["end_ns"] > messages["start_ns"]).all()
    for exchange in exchanges_in(table):
        given = patterns_of(exchange.purpose, len(exchange.bytes_DD), 60_000, 0)[exchange.pattern]
        assert np.array_equal(exchange.bytes_DD, given)
        own = messages[(messages["pattern"] == exchange.pattern) & (messages["devices"] == len(given))]
        assert len(own) == 2 * (given > 0).sum()
        fullest_ns = max(given.sum(0).max(), given.sum(1).max()) / 20e6 * 1e9
        assert (own.groupby("repetition")["end_ns"].max() >= fullest_ns - BURST_NS).all()
    links = read_links("mine.toml")
    (fitted,) = header["links"]
    assert (links.inside_latency_ns, links.network_bytes_per_s) == (fitted["latency_ns"], fitted["bytes_per_s"])
    assert "fitted by collect ports to 22 exchanges" in links.source
    assert simulated_with("mine.toml") == fitted["bytes_per_s"]
    written = (tmp_path / "ports.parquet").read_bytes()
    assert "is there already" in invoke(*words).output  # what is measured is kept, its link file is written again
    assert (tmp_path / "ports.parquet").read_bytes() == written


def simulated_with(links):
    """Return the bandwidth that a run on two linked devices says it had."""
    trace = synthetic_trace(SyntheticSpec(layers=1, experts=4, k=2, sequences=4), np.random.default_rng(0)).trace
    save_trace(trace, "toy.trace.parquet")
    words = ("run", "toy.trace.parquet", "--affine", "100,10", "--scheduler", "lockstep", "--devices", "2", "--links",
             links, "--dispatch-bytes", "9", "--combine-bytes", "9", "--engine", "simpy", "--jobs", "1", "--out",
             "runs")  # fmt: skip
    assert status_of(simulate_app, "simulate", list(words)) == 0
    (name,) = run_names("runs")
    return load_run("runs", name).header["config"]["cluster"]["inside_bytes_per_s"]


@pytest.mark.parametrize(
    ("gpus", "words", "ways", "devices"),
    [
        (0, {}, ["paced", "held", "loopback"], (2, 4)), (1, {}, ["paced", "held", "loopback"], (2, 4)),
        (2, {}, ["nccl"], (2,)), (8, {}, ["nccl"], (2, 4)), (8, {"devices": "8,2,8"}, ["nccl"], (8, 2)),
        (8, {"way": "gloo,paced,gloo", "devices": "16"}, ["gloo", "paced"], (16,)),
    ],
)  # fmt: skip
def test_what_is_measured_depends_on_the_gpus_there_are(gpus, words, ways, devices):
    plan = ExchangeOptions(**words).plan(gpus)
    assert ([way.name for way in plan.ways], plan.devices) == (ways, devices)
    with pytest.raises(InputError, match=rf"--devices: 9 is not allowed; allowed here: 2\.\.{max(gpus, 2)}"):
        ExchangeOptions(way="nccl", devices="9").plan(max(gpus, 2))


def test_the_same_exchanges_by_torch(tmp_path):
    """One collective carries all messages: those of a device begin together and end together."""
    out = tmp_path / "ports.parquet"
    said = invoke("ports", "--devices", 2, "--way", "gloo", "--message", "10kB", "--repetitions", 1, "--out", out)
    assert said.exit_code == 0, said.output
    table, header = load_port_log(out)
    assert header["ways"]["gloo"]["torch"] == torch.__version__
    assert header["links"][0]["exchanges"] == 11
    messages = table.to_pandas()
    assert len(messages) == 6 + 5 * 2 + 2 * 14 + 2
    assert (messages.groupby(["pattern", "source"])["start_ns"].nunique() == 1).all()
    assert (messages["end_ns"] > messages["start_ns"]).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--way", "nccl"), "--way nccl: this machine has 0 GPUs, needed: 2; allowed here: paced, held, loopback"),
        (("--way", "rdma"), "unknown --way 'rdma'; known: gloo, held, loopback, nccl, paced"),
        (("--devices", "1"), "--devices: 1 is not allowed; allowed: numbers >= 2"),
        (("--devices", "2,65"), "--devices: 65 is not allowed; allowed here: 2..64"),
        (("--bandwidth", "inf"), "bandwidth"), (("--bandwidth", "1B/s"), "1B/s is not allowed"),
        (("--message", "10"), "10 is not allowed"), (("--repetitions", "0"), "0 is not allowed"),
        (("--links-out", "links.json"), "'links.json' is not allowed; allowed: a name that ends in .toml"),
        (("--links-out", "there.toml"), "there.toml: exists, allowed: --force to replace it"),
        (("--out", "there.parquet"), "there.parquet: exists"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_a_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("there.toml", "there.parquet"):
        (tmp_path / name).write_text("somebody's")
    given = ["ports", "--device", "cpu", *(() if "--out" in words else ("--out", "new.parquet")), *words]
    assert status_of(application(), "collect", given) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.parquet", "there.toml"]


def test_a_device_that_ends_is_named(capfd):
    with pytest.raises(InputError, match="--way broken: device 0 of 2 has ended or does not answer"):
        DeviceGroup(Way("broken", "moe_replay.no_such_module", "", 1), 2).__enter__()
    capfd.readouterr()


def test_ways_say_what_they_are():
    assert set(ON_CPU) < set(WAYS)
    assert all(json.dumps(way.about()) for way in WAYS.values())
    assert WAYS["held"].buffer_bytes < WAYS["held"].message_bytes < WAYS["paced"].buffer_bytes
