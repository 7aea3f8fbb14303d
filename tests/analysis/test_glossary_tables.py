"""Every column of every table has an entry in the glossary, and no entry is of no table: all tables are made here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from moe_tables import write_moe_tables
from published_files import write_published_files
from rich.console import Console, Group
from typer.testing import CliRunner

import moe_replay.traces.shipped
from moe_replay.analysis.__main__ import app as analysis_app
from moe_replay.analysis.column_meanings import header_of
from moe_replay.analysis.estimates.replications import combined
from moe_replay.analysis.reading.configurations import INPUTS
from moe_replay.analysis.reading.setting_words import describe_config
from moe_replay.analysis.tables.open_loop.predicted_times import time_row
from moe_replay.analysis.tables.queue_size.rows import queue_size_table, step_rows, tradeoff_rows
from moe_replay.simulate.__main__ import app as simulate_app
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.traces.__main__ import app as traces_app
from moe_replay.traces.command_line.files import write_rows
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.glossary.lookup import BY_NAME, entry, explained_by
from moe_replay.traces.runs.cost_table import COST_COLUMNS
from moe_replay.traces.runs.port_log import EXECUTED_COLUMNS, PREDICTED_COLUMNS
from moe_replay.traces.runs.run_records import (
    BATCH_COLUMNS,
    LINKED_BATCH_COLUMNS,
    MESSAGE_COLUMNS,
    PHASED_PASS_COLUMNS,
    TRANSFER_COLUMNS,
)
from moe_replay.traces.runs.run_statistics import run_statistics
from moe_replay.traces.served_layers.served_times import COLUMNS as SERVED_COLUMNS
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace
from moe_replay.traces.training_graphs.graph_file import save_graph
from moe_replay.traces.training_graphs.training_graph import PHASES, training_graph

AFFINE = ("--affine", "2000,100")
MEMORY = ("--bandwidth", "1", "--expert-bytes", "4000", "--slots", "2", "--miss", "load", "--jobs", "1")


@pytest.fixture
def printed(monkeypatch):
    """The titles of every table that is printed, as they come."""
    titles = []

    def watch(console, *things, **options):
        for thing in things:
            for each in thing.renderables if isinstance(thing, Group) else [thing]:
                titles.extend(str(column.header) for column in getattr(each, "columns", []) if each.show_header)

    monkeypatch.setattr(Console, "print", watch)
    return titles


def call(app, *words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (words, done.output, done.exception)


def columns_of_files(folder):
    """Return the columns of all CSV files and of the tables of sweeps in a folder and those below it."""
    paths = [*folder.rglob("*.csv"), *folder.rglob("sweep*.parquet")]
    return {name for path in paths for name in header_of(path)}


def write_times(folder):
    """Write times of the models of per-sample K, which the small folder has none of."""
    rows = [("fixed-4", "fixed", "", "", k, r, 1000, 0.01 * k) for k in (1, 2, 4) for r in range(2)]
    rows.append(("fixed-4", "rule", "delta:0.9:8", 2.0, "", 0, 1000, 0.025))
    names = ("model", "how", "rule", "target_k", "k", "repetition", "images", "seconds")
    write_rows(folder / "dynamic_k_times.csv", [dict(zip(names, row, strict=True)) for row in rows])


def columns_of_rows(make_run):
    """Return {table: columns} of what the small folder has no runs for: times of re-gated traces, steps between B."""
    arrival = np.arange(300) * 10
    rows = []
    for size in (1, 2):
        batches = [(0, 1, 1, t, t, t + 5) for t in arrival]
        fields = {"arrivals": "poisson", "rate_per_s": 100.0, "load": 0.5, "seed": 0, "queue_size": size}
        found = run_statistics(make_run((arrival, arrival, arrival + 5), batches, **fields))
        rows.append({"set": "s", "source": "executed", **describe_config(found.config, None), **combined([found])})
    table = queue_size_table(rows)
    (step,), (trade, _) = step_rows(table, "s", "executed"), tradeoff_rows(table, "s", "executed")
    times = time_row([found], [found], None)
    return {"queue_size_steps": list(step), "queue_size_tradeoff": list(trade), "open_loop_times": list(times)}


def listed_columns():
    """Return {table: columns} as the tests of figures know them."""
    listed = (Path(__file__).resolve().parent.parent / "table_columns.txt").read_text()
    pairs = (line.partition(":") for line in listed.replace("\n    ", " ").splitlines())
    return {name: columns.split() for name, _, columns in pairs}


def test_tables_have_the_columns_that_figures_are_tested_with(folders, make_run):
    """Figures are tested with tables made by hand: `tests/table_columns.txt` says what columns those have."""
    logs, simulated, out = folders
    write_times(logs / "cpu-toy" / "digits")
    call(analysis_app, "tables", logs, simulated, "--out", out)
    made = {path.stem: header_of(path) for path in out.glob("*.csv")}
    found = {name: columns for name, columns in made.items() if columns} | columns_of_rows(make_run)
    del found["open_loop_times"]  # of which no figure is drawn
    assert found == listed_columns()


def test_tables_and_glossary_have_the_same_columns(folders, tmp_path, printed, make_run, monkeypatch):
    logs, simulated, out = folders
    write_times(logs / "cpu-toy" / "digits")
    call(analysis_app, "tables", logs, simulated, "--out", out)
    made = tmp_path / "made"
    made.mkdir()
    trace = made / "toy.trace.parquet"
    spec = SyntheticSpec(layers=2, experts=5, k=2, sequences=8, prompt=(3, 5), decode=(4, 6))
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, trace)
    call(traces_app, "describe", trace)
    call(simulate_app, "misses", trace, "--mode", "group", "--prefetch", "none,previous-token", "--slots", "2",
         "--out", made / "misses.csv")  # fmt: skip
    of_domains = replace(load_trace(trace), domain_S=np.array(["a", "b"] * 4))
    save_trace(of_domains, made / "domains.trace.parquet")
    call(simulate_app, "place", made / "domains.trace.parquet", "--method", "lpt,eplb,bound", "--devices", "2",
         "--nodes", "2", "--redundant", "1", "--split", "nearest", "--batch", "8", "--expert-bytes", "9",
         "--out", made / "placed")  # fmt: skip
    call(simulate_app, "memory", trace, *AFFINE, *MEMORY, "--cache", "lru,fifo", "--out", tmp_path / "memory")
    call(simulate_app, "sweep", trace, *AFFINE, "--axis", "cache=resident,static", "--axis", "slots=2", "--axis",
         "expert_bytes=4000", "--axis",
         "load=0.5", "--out", made / "sweep.parquet", "--jobs", "1")  # fmt: skip
    call(simulate_app, "run", trace, *AFFINE, "--scheduler", "lockstep", "--devices", "2", "--links", "h800-ndr",
         "--dispatch-bytes", "1", "--combine-bytes", "1", "--engine", "simpy", "--jobs", "1",
         "--out", tmp_path / "linked")  # fmt: skip
    call(analysis_app, "runs", tmp_path / "linked", "--out", made / "linked.csv")
    quality = logs / "cpu-toy" / "text" / "swap-quality.csv"
    call(analysis_app, "memory", tmp_path / "memory", "--quality", quality, "--out", made / "memory.csv")
    call(analysis_app, "runs", made / "sweep.parquet", "--out", made / "runs.csv")
    call(analysis_app, "locality", trace)
    call(simulate_app, "miss-curves", trace, "--out", made / "curves.csv")
    call(analysis_app, "miss-ratio", made / "curves.csv")
    call(analysis_app, "open-loop", logs, simulated)
    call(analysis_app, "columns", "busy")
    rows = [(f"op{v}", "x", PHASES[v % 4], 0) for v in range(8)]
    storages = [(v + 1, v, False, [v + 1, 7] if v < 6 else [7]) for v in range(7)]
    save_graph(training_graph("toy", rows, storages), made / "toy.graph.json")
    call(simulate_app, "compose", trace, *AFFINE, "--arrivals", "poisson", "--rate", "9000", "--requests",
         made / "served.csv")  # fmt: skip
    call(analysis_app, "requests", made / "served.csv", "--ttft", "1s", "--out", made / "times.csv")
    call(simulate_app, "order", made / "toy.graph.json", "--policy", "best,random", "--seconds", "1",
         "--out", made / "orders.csv")  # fmt: skip
    call(simulate_app, "fuse", made / "toy.graph.json", "--pairs", "2", "--seconds", "1", "--out", made / "fused.csv")
    loads = logs / "cpu-toy" / "text" / "training" / "unbalanced.loads.parquet"
    call(simulate_app, "rebalance", loads, "--devices", "2", "--bandwidth", "1GB/s", "--step-time", "1ms",
         "--hidden-steps", "1", "--move-cost", "0.1", "--points", "--out", made / "over.csv")  # fmt: skip
    call(simulate_app, "rebalance", trace, *AFFINE, "--devices", "2", "--batch", "8", "--links", "h800-ndr",
         "--dispatch-bytes", "1", "--combine-bytes", "1", "--expert-bytes", "9", "--engine", "simpy", "--out",
         made / "timed.csv")  # fmt: skip
    call(simulate_app, "end-to-end", loads, *AFFINE, "--devices", "2", "--step-tokens", "400", "--token-bytes", "8",
         "--out", made / "steps.csv")  # fmt: skip
    write_moe_tables(tmp_path / "moe")
    imports = ("import-costs", "--tables", tmp_path / "moe", "--gpu", "toy_sxm")
    call(traces_app, *imports)
    call(traces_app, *imports, "--k", "1", "--out", made / "toy.served.parquet")
    call(simulate_app, "skew", made / "toy.served.parquet", "--tokens", "4", "--out", made / "skewed.csv")
    call(simulate_app, "pools", loads, "--devices", "2", "--width", "8", "--hidden", "8", "--out", made / "pools.csv")
    write_published_files(tmp_path / "smartmoe")
    call(analysis_app, "smartmoe", tmp_path / "smartmoe", "--out", made / "published")
    shapes = logs / "cpu-toy" / "shapes"
    monkeypatch.setattr(moe_replay.traces.shipped, "DATA", logs)
    call(simulate_app, "costs")
    used = columns_of_files(out) | columns_of_files(made) | set(printed)
    used |= {name for file in ("toy.times.parquet", "link.parquet") for name in header_of(shapes / file)}
    used |= {*EXECUTED_COLUMNS, *PREDICTED_COLUMNS}
    used |= {name for columns in columns_of_rows(make_run).values() for name in columns}
    used |= {*PHASED_PASS_COLUMNS, *BATCH_COLUMNS, *LINKED_BATCH_COLUMNS}
    used |= {*TRANSFER_COLUMNS, *MESSAGE_COLUMNS, *COST_COLUMNS, *SERVED_COLUMNS}
    used |= {*INPUTS, "row"}  # where rows differ in them, and where something is said of a row
    used -= set(CACHES)  # values of `policy` that `miss-ratio` prints side by side
    assert not sorted(name for name in used if entry(name) is None)
    unused = set(BY_NAME) - {explained_by(name) for name in used}
    assert not unused, sorted(unused)
