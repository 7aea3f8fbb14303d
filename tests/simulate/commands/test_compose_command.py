"""`simulate compose` over linked devices and by arrival rate, and `analysis requests` on what it writes."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from moe_replay.analysis.__main__ import app as analysis_app
from moe_replay.analysis.tables.what_if import runs_table
from moe_replay.simulate.__main__ import app as simulate_app
from moe_replay.traces.__main__ import app as traces_app
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.runs.request_table import read_requests, status_of_run
from moe_replay.traces.runs.run_records import run_names

LINKED = "--devices 4 --nodes 2 --links h800-ndr --dispatch-bytes 4096 --combine-bytes 4096 --engine simpy"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder that holds a small trace, `toy.parquet`."""
    monkeypatch.chdir(tmp_path)
    words = "make toy.parquet --sequences 12 --layers 2 --experts 8 --k 2 --prompt 2-6 --decode 2-5 --seed 1"
    assert CliRunner().invoke(traces_app, words.split()).exit_code == 0
    return tmp_path


def call(app, line):
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0, (line, done.output, done.exception)
    return done.output


def refused(capsys, line, stage="simulate"):
    """Return the one line that refuses a command."""
    app = simulate_app if stage == "simulate" else analysis_app
    assert status_of(app, stage, line.split()) == 2
    (said,) = capsys.readouterr().err.splitlines()
    return said


def test_rates_and_seeds_make_one_table_and_a_target_finds_the_highest(toy):
    words = f"compose toy.parquet --affine 20000,500 {LINKED} --arrivals poisson --rate 100,2000,9000"
    said = call(simulate_app, f"{words} --replications 2 --requests served.csv")
    assert "TTFT p95" in said
    assert "TPOT ms" in said
    rows = read_requests(toy / "served.csv")
    assert len(rows) == 3 * 2 * 12
    assert {(row["rate_per_s"], row["seed"]) for row in rows} == {
        (rate, seed) for rate in ("100.0", "2000.0", "9000.0") for seed in "01"
    }
    about = json.loads((toy / "served.json").read_text())
    assert about["system"]["devices"] == 4
    assert about["system"]["kv_bytes_per_token"] == 0
    found = call(analysis_app, "requests served.csv --ttft 1s --tpot 1s --out times.csv")
    assert "up to 9000 requests/s, the highest that was tried" in found
    assert "short: too few requests to tell" in found
    assert "kept by no rate" in call(analysis_app, "requests served.csv --ttft 1us")
    assert (toy / "times.csv").read_text().count("\n") == 4


def test_recorded_arrivals_are_served_at_several_speeds(toy):
    """Each speed has a mean rate, and whether it can be served is judged as it is of drawn arrivals."""
    cost = "--affine 20000,500"
    call(simulate_app, f"compose toy.parquet {cost} --arrivals poisson --rate 100 --sequences 400 --out timed.parquet")
    served = f"compose timed.parquet {cost} --arrivals recorded --speed"
    said = call(simulate_app, f"{served} 1,2,2000 --requests served.csv")
    assert said.split()[said.split().index("status") + 1] == "1"
    rows = read_requests(toy / "served.csv")
    arrivals = load_trace(toy / "timed.parquet").arrival_ns_S
    by_speed = {speed: [row for row in rows if float(row["speed"]) == speed] for speed in (1, 2, 2000)}
    for speed, found in by_speed.items():
        wanted = np.rint(np.sort(arrivals) / speed).astype(int)
        assert [row["arrival_ns"] for row in found] == wanted.tolist()
        assert float(found[0]["rate_per_s"]) == 399 * 1e9 / (wanted[-1] - wanted[0])
    status = {speed: status_of_run(found) for speed, found in by_speed.items()}
    assert status == {1: "ok", 2: "ok", 2000: "unstable"}
    found = call(analysis_app, "requests served.csv --ttft 10ms")
    assert "speed" in found
    assert "unstable: later requests" in found
    call(simulate_app, f"{served} 2 --out twice.parquet")
    assert load_trace(toy / "twice.parquet").header.notes["composition"]["speed"] == 2.0


def test_a_run_and_a_sweep_take_speeds(toy):
    call(simulate_app, "compose toy.parquet --affine 20000,500 --arrivals poisson --rate 900 --out timed.parquet")
    words = "timed.parquet --affine 20000,500"
    call(simulate_app, f"run {words} --arrivals recorded --speed 1,2 --out runs")
    assert run_names(toy / "runs") == ["queues-B001-recorded", "queues-B001-recorded-x2.0"]
    call(simulate_app, f"sweep {words} --axis speed=1,2 --out sweep.parquet")
    for made in ("runs", "sweep.parquet"):
        table = runs_table(toy / made)
        assert table.settings["speed"].tolist() == [1.0, 2.0]


def test_two_pools_say_what_they_send(toy):
    words = f"compose toy.parquet --affine 20000,500 {LINKED} --pools prefill=2,decode=2 --requests"
    assert "0 bytes for a prompt's token" in call(simulate_app, f"{words} none.csv")
    assert "0 bytes for a prompt's token" in call(analysis_app, "requests none.csv")
    assert "do not slow each other" in call(simulate_app, f"{words} sent.csv --kv-bytes 64KiB")
    sent = read_requests(toy / "sent.csv")
    assert all(row["kv_bytes"] == 65536 * row["prompt_tokens"] for row in sent)
    assert all(row["decode_pool_ns"] > row["first_token_ns"] for row in sent)
    assert not any(row["kv_bytes"] for row in read_requests(toy / "none.csv"))


def test_a_composed_trace_names_the_machine_only_where_there_is_one(toy):
    from moe_replay.traces.file.trace_file import load_trace

    call(simulate_app, f"compose toy.parquet --affine 20000,500 {LINKED} --out linked.trace.parquet")
    call(simulate_app, "compose toy.parquet --affine 20000,500 --out alone.trace.parquet")
    linked, alone = (load_trace(toy / f"{name}.trace.parquet").header.notes for name in ("linked", "alone"))
    assert linked["composition"]["cluster"]["nodes"] == 2
    assert "cluster" not in alone["composition"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--devices 2", "2 devices serve together over links, allowed: --links, or one device"),
        ("--nodes 2", "--nodes has no meaning without --links"),
        (f"{LINKED} --pools prefill=2", "--pools: 'prefill=2' is not allowed; allowed: prefill=P,decode=Q"),
        (f"{LINKED} --pools prefill=2,decode=x", "is not allowed; allowed: prefill=P,decode=Q, numbers of devices"),
        (f"{LINKED} --pools prefill=2,decode=1", "pools of 2 and 1 devices, allowed: 4 in all"),
        (f"{LINKED} --pools prefill=1,decode=3", "a pool of 1 devices, allowed: whole nodes of 2"),
        (f"{LINKED} --kv-bytes 5", "--kv-bytes has no meaning without --pools"),
        (f"{LINKED} --micro-batches 1,2", "one machine serves, allowed: no lists"),
        (
            f"{LINKED} --pools prefill=2,decode=2 --out x.parquet",
            "a trace holds one after another; allowed: --requests",
        ),
        ("--arrivals poisson --rate 1,2 --out x.parquet", "--out: 2 runs are no one trace"),
        ("--requests x.parquet", "allowed: a name that ends in .csv"),
        ("--seed 1 --replications 2", "--seed and --replications both say which seeds"),
        ("--speed 2", "--speed has no meaning under arrivals 'all', only under 'recorded'"),
        ("--arrivals recorded --speed 0", "--speed"),
        ("--rate 5", "a rate is needed under arrivals 'poisson', and allowed only there"),
    ],
)
def test_what_cannot_be_composed_is_refused_in_one_line(toy, capsys, words, said):
    assert said in refused(capsys, f"compose toy.parquet --affine 1,1 {words}")


@pytest.mark.parametrize(
    ("line", "change", "said"),
    [
        (
            1,
            lambda text: text.replace("request", "asked"),
            "is no table of requests; allowed: what `python -m simulate",
        ),
        (3, lambda text: text + "x", "line 3: end_ns is"),
        (3, lambda text: text.replace("0,", "-,", 1), "line 3: "),
        (4, lambda text: text.rsplit(",", 1)[0] + ",0", "allowed: that order, at least one token"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(toy, capsys, line, change, said):
    call(simulate_app, "compose toy.parquet --affine 20000,500 --arrivals poisson --rate 100 --requests served.csv")
    lines = (toy / "served.csv").read_text().splitlines()
    lines[line - 1] = change(lines[line - 1])
    (toy / "served.csv").write_text("\n".join(lines) + "\n")
    assert said in refused(capsys, "requests served.csv", "analysis")
    assert "unknown --at 'p90'" in refused(capsys, "requests served.csv --at p90", "analysis")
