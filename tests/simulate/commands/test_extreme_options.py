"""Options that no machine and no clock can hold: one line that says why, exit status 2, at once."""

import shlex
import sys
import time

import pytest
from sweep_worlds import toy_trace

from moe_replay.simulate.__main__ import app
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.file.trace_file import save_trace

RUN = "run toy.parquet --affine 100,10 --jobs 1 --out x"
MEMORY = "memory toy.parquet --affine 100,10 --expert-bytes 1000 --cache lru --jobs 1 --out x"


@pytest.fixture
def simulate(monkeypatch, tmp_path, capsys):
    """Return a function (line) -> (status, output, errors), in a folder with a trace of 60 sequences."""
    monkeypatch.chdir(tmp_path)
    save_trace(toy_trace(tokens=60), "toy.parquet")

    def call(line):
        words = shlex.split(line)
        monkeypatch.setattr(sys, "argv", ["simulate/__main__.py", *words])
        capsys.readouterr()
        return status_of(app, "simulate", words), *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{RUN} --queue-size 99999999999999999999", "--queue-size: 99999999999999999999 is not allowed"),
        (f"{RUN} --queue-size 4294967296", "queue_size is 4294967296, allowed: integers 1..2,147,483,647"),
        (RUN.replace("100,10", "1e300,1"), "--affine: 1e+300 is 1e+300 ns, allowed: less than"),
        (RUN.replace("100,10", "inf,0"), "--affine: 'inf' is no time; allowed: times such as 200us"),
        (RUN.replace("100,10", "nan,0"), "--affine: 'nan' is no time"),
        (f"{RUN} --jobs -5", "--jobs"),
        (f"{RUN} --timeout inf", "'inf' is no time; allowed: times such as 200us"),
        (f"{RUN} --timeout 1e17", "--timeout: 100000000000000000000 is not allowed; allowed: integers up to"),
        (f"{RUN} --replications 999999999", "--replications: 999,999,999 would take about"),
        (f"{RUN} --replications 99999999999", "--replications: 99,999,999,999 would take about"),
        (f"{RUN} --sequences 2147483647", "the sequences to serve: 2,147,483,647 would take about"),
        (f"{RUN} --sequences 9999999999", "sequences is 9999999999, allowed: integers 1..2,147,483,647"),
        (f"{RUN} --devices 100000", "devices is 100000, allowed: integers 1..32,766"),
        (f"{RUN} --arrivals poisson --rate inf", "--rate: inf is not allowed here"),
        (f"{RUN} --arrivals poisson --load 1e-9,nan", "--load: 'nan' is no share; allowed: shares such as 0.4 or 40%"),
        (f"{RUN.replace('100,10', '0,0')} --no-dense --arrivals poisson --load 0.5", "costs of 0 ns do not bound"),
        (f"{MEMORY} --latency inf", "'inf' is no time; allowed: times such as 200us"),
        (f"{MEMORY} --bandwidth nan", "--bandwidth"),
        (f"{MEMORY} --host-factor inf", "--host-factor: inf is not allowed here"),
        (f"{MEMORY} --replications 999999999", "--replications: 999,999,999 would take about"),
        (f"{MEMORY} --slots 99999999999", "slots is 99999999999, allowed: integers 1..32,766"),
        (MEMORY.replace("1000", "1000000000000") + " --bandwidth 1e-9", "a transfer of 1,000,000,000,000 bytes"),
        ("sweep toy.parquet --affine 1,1 --axis queue_size=1 --replications 999999999 --out x", "would take about"),
        (
            "sweep toy.parquet --affine 1,1 --out x --axis "
            + " --axis ".join(
                f"{name}={','.join(map(str, range(1, 400)))}"
                for name in ("queue_size", "dense_queue_size", "timeout_ns", "k", "sequences", "devices")
            ),
            "the grid: points: ",
        ),
        ("like runs toy.parquet --affine 1,1 --replications 999999999 --out x", "no such folder of run records"),
        ("compose toy.parquet --affine 1,1 --sequences 2147483647 --out x", "--sequences: 2,147,483,647 would take"),
        ("compose toy.parquet --affine 1e18,0 --out x", "the clock would pass 9,223,372,036,854,775,807 ns in step"),
        ("compose toy.parquet --affine 1,1 --arrivals poisson --rate inf --out x", "--rate: inf is not allowed here"),
    ],
)
def test_is_refused_in_one_line(line, said, simulate):
    began = time.monotonic()
    status, _, errors = simulate(line)
    assert status == 2
    assert said in errors
    assert len([each for each in errors.splitlines() if each.startswith("simulate: ")]) == 1
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_run_that_leaves_64_bits_is_named(engine, simulate):
    status, _, errors = simulate(f"{RUN.replace('100,10', '1e17,0')} --no-dense --engine {engine}")
    assert status == 2
    line = errors.splitlines()[-1]
    assert line.startswith("simulate: queues-B001-all-s0-nodense: failed: the run's clock would pass 9,223,372,036,854")
    assert line.endswith("allowed: times whose sum is less (1 of 1 runs)")


def test_more_in_flight_than_there_are_is_said(simulate):
    """All 60 are in flight from the start: the same as with 60, and as all at once."""
    status, said, _ = simulate(f"{RUN} --arrivals closed --in-flight 60,1000000 --replications 0")
    assert status == 0
    assert said.splitlines()[0] == (
        "in flight 1,000,000 of 60 sequences: all of them are from the start, and none follows"
    )
    from moe_replay.traces.runs.run_records import load_run

    few, many = (load_run("x", f"queues-B001-closed{count}") for count in (60, 1000000))
    assert few.passes["end_ns"].tolist() == many.passes["end_ns"].tolist()


def test_a_link_without_limit_takes_its_latency_only(simulate):
    status, _, errors = simulate(f"{MEMORY} --bandwidth inf --latency 5us --no-explain")
    assert (status, errors.count("failed")) == (0, 0)
    from moe_replay.traces.runs.run_records import load_run, run_names

    (name,) = [each for each in run_names("x") if "lru" in each]
    transfers = load_run("x", name).transfers
    assert set((transfers["end_ns"] - transfers["start_ns"]).tolist()) == {5000}
