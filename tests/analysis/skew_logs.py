"""A served layer in small, and what `simulate skew` makes of it and of a trace, as a folder of logs asks."""

import numpy as np
import pyarrow as pa
from typer.testing import CliRunner

from moe_replay.simulate.__main__ import app
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.new_traces import trace_from_arrays
from moe_replay.traces.runs.cost_table import COST_COLUMNS, CostTable
from moe_replay.traces.served_layers.served_times import COLUMNS, ServedTimes

MODEL = {"name": "toy", "experts": 4, "k": 2, "width": 100, "hidden": 1000, "dtype": "bfloat16"}


def served_layer():
    """On D devices balanced tokens take 100 us and 10 each over D; the law half as much again. An exchange takes 8."""
    rows = [
        ("layer", "grouped", devices, tokens, spread, round(factor * (100_000 + 10_000 * tokens / devices)))
        for devices in (1, 2) for tokens in (1, 64) for spread, factor in (("balanced", 1), ("power_law_1.2", 1.5))
    ]  # fmt: skip
    rows += [(part, "ll", 2, tokens, "unstated", 4_000) for part in ("dispatch", "combine") for tokens in (1, 64)]
    table = pa.table(dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)), pa.schema(COLUMNS.items()))
    header = {"device": "Toy H200", "framework": "vllm 1", "model": MODEL, "source": "a toy", "license": "none"}
    return ServedTimes(table, header)


def write_served_layer(folder):
    """Write the layer and the costs of its experts, 50 us a batch; return the layer's file."""
    folder.mkdir(parents=True, exist_ok=True)
    served_layer().save(folder / "toy-vllm.served.parquet")
    rows = zip(*[(0, 1, tokens, 0, 50_000) for tokens in (1, 128)], strict=True)
    columns = {name: np.array(values, kind) for (name, kind), values in zip(COST_COLUMNS.items(), rows, strict=True)}
    about = {"device": "toy", "model": MODEL, "dense": "none"}
    CostTable(columns, about).save(folder / "toy-alone.costs.parquet")
    return folder / "toy-vllm.served.parquet"


def write_simulated_skew(served, out, *options):
    """Write what `simulate skew` says of the layer, and of tokens that all have experts 0 and 1 of four."""
    skewed = trace_from_arrays(np.tile([1, 0], (8, 1, 1)), [0, 8], experts=4, phase="prefill")
    save_trace(skewed, out / "hot.trace.parquet")
    words = ("--costs", served.parent / "toy-alone.costs.parquet", "--links", "h100-ndr", "--gpu", "h200")
    words = ("skew", served, out / "hot.trace.parquet", "--tokens", "4", *words, "--out", out / "skew" / "toy-vllm.csv")
    done = CliRunner().invoke(app, [str(word) for word in (*words, *options)])
    assert done.exit_code == 0, (done.output, done.exception)
