"""A set with two operating points: four experts for every sample, and two on average; executed 10 % slower."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from moe_replay.simulate.config.costs import CostModel
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.simulate.sweeps.run_folder import Runs, choices_only
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.runs.run_records import RunRecords
from moe_replay.traces.selections import Trace

CLOSED = RunConfig(queue_size=4, arrivals="closed", in_flight=32, sequences=1500, seed=0)
POISSON = RunConfig(queue_size=4, arrivals="poisson", rate_per_s=2000.0, load=0.4, sequences=1500, seed=0)


def recorded(counts, rule, seed=0):
    """A trace of 300 tokens in one layer of 8 experts, `counts` experts each in turn; a third is answered wrongly."""
    draws = np.random.default_rng(seed)
    order_TE = np.argsort(draws.random((300, 8)), axis=1)[:, :4]
    count_T = np.resize(counts, 300)
    experts_TLK = np.where(np.arange(4) < count_T[:, None], order_TE, -1)[:, None].astype(np.int16)
    header = Header(
        model=ModelInfo(name="toy", experts=8, used_k=4, layer_ids=(0,)), gate_rule="softmax over the chosen",
        score_kind=None, ranked=True, device="none", data={"name": None, "digest": None, "note": None},
        notes={"k_rule": rule},
    )  # fmt: skip
    ids = np.arange(300, dtype=np.int32)
    zeros = np.zeros(300, np.int32)
    return Trace(
        header=header, experts_TLK=experts_TLK, sequence_T=ids, position_T=zeros, step_T=ids // 50,
        phase_T=np.zeros(300, np.int8), label_S=zeros, prediction_S=(ids % 3 == 0).astype(np.int32),
    )  # fmt: skip


def serving_world(folder, simulated):
    """Write `rules/` and `serving/` of a set, and the simulated runs into `simulated/serving/`."""
    for name, counts, rule in (("wide-k4", [4], None), ("wide-delta-0.5", [1, 3], "delta:0.5:4")):
        trace = recorded(counts, rule)
        save_trace(trace, folder / "rules" / f"{name}.trace.parquet")
        serve_point(name, trace, folder, simulated)


def serve_point(name, trace, folder, simulated):
    """Write the executed and the simulated runs of one point."""
    for source, slower, place in (("executed", 1.1, folder), ("simulated", 1.0, simulated)):
        costs = CostModel(line_ns=(20000 * slower, 5000 * slower))
        for config in (replace(CLOSED, dense=False), replace(POISSON, dense=False)):
            found = Runs(choices_only(trace), trace.digest, costs, Path(), {}).simulate(config)
            header = run_header(source, config, "toy", trace.digest, None, {})
            RunRecords(found.passes, found.batches, header).save(place / "serving" / name, config.name)
