"""Steps of systems on clusters: times by hand, splits that add up, and steps that were worked out independently."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.costs import read_costs
from moe_replay.simulate.end_to_end.judged_steps import JudgedSteps, judged_steps
from moe_replay.simulate.end_to_end.step_rows import Asked, step_rows
from moe_replay.simulate.end_to_end.systems import System, stretches_of, systems_of
from moe_replay.simulate.rebalancing.load_points import LoadPoints
from moe_replay.simulate.rebalancing.replay import RebalanceRule
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace

SHARED = Path(__file__).resolve().parents[4] / "shared"
REAL = Path(os.environ.get("MOE_REPLAY_TRACES", SHARED / "data" / "traces"))
NUMBERS, LAW = REAL.parents[1] / "reference" / "placement_numbers.json", REAL / "deepseek-v2-lite" / "law.npz"
EVERY_STEP = RebalanceRule()
FREE = ClusterConfig(
    links="free", inside_latency_ns=0, inside_bytes_per_s=1e15, network_latency_ns=0, network_bytes_per_s=1e15,
    dispatch_bytes=1, combine_bytes=1,
)  # fmt: skip


def steps_of(experts_SNLK, experts, first):
    """Steps of these tokens."""
    tokens = np.array(experts_SNLK, np.int16)
    load_SLE = np.stack([
        [np.bincount(step[:, layer].ravel() + 1, minlength=experts + 1)[1:] for layer in range(tokens.shape[2])]
        for step in tokens
    ])  # fmt: skip
    points = LoadPoints(
        name="toy", phase="all", load_SLE=load_SLE, number_S=np.arange(len(tokens)),
        layer_ids=tuple(range(tokens.shape[2])), experts_SNLK=tokens,
    )  # fmt: skip
    return JudgedSteps(points, first)


def of_counts(*steps):
    """One layer, one expert a token: these counts of every step's experts, half of the steps judged."""
    tokens = [[[[expert]] for expert, count in enumerate(counts) for _ in range(count)] for counts in steps]
    return steps_of(tokens, len(steps[0]), len(steps) // 2)


def rows_of(steps, names, clusters=(FREE,), redundant=(0,), devices=2, rule=EVERY_STEP, line="0,1000"):
    asked = Asked(tuple(systems_of(names, redundant)), tuple(clusters), devices, rule, expert_bytes=100)
    return step_rows(steps, asked, read_costs(None, line, False))


def test_with_one_hot_expert_only_replicas_help():
    """Eight of twelve tokens go to one of four experts: no device of whole experts has less, two halves have six."""
    rows = rows_of(of_counts([8, 2, 1, 1], [8, 2, 1, 1]), ["contiguous", "lpt", "exact", "eplb"], redundant=[2])
    by_name = {row["system"]: row for row in rows}
    # A step: dense blocks of six tokens on either device, experts, and a last dense block.
    for name, heaviest in (("contiguous", 10), ("lpt", 9), ("exact", 9), ("eplb", 6)):
        assert by_name[name]["mean_step_ms"] * 1e6 == 1000 * (6 + heaviest + 6), name
        assert by_name[name]["device_max_over_mean"] == heaviest / 6
        assert by_name[name]["hottest_over_device"] == 8 / 6
    assert by_name["eplb"]["speed_up"] == 22 / 18


def test_replicas_and_micro_batches_cost_time_where_a_batch_costs_the_same_whatever_its_size():
    """A batch takes 1 us: a third slot or a second part of the step is one more batch on every device."""
    steps = of_counts([4, 4, 4, 4], [4, 4, 4, 4])
    rows = rows_of(
        steps, ["contiguous", "eplb"], [FREE, replace(FREE, micro_batches=2)], redundant=[2], line="1000,0"
    )  # fmt: skip
    us = {(row["system"], row["micro_batches"]): row["mean_step_ms"] * 1000 for row in rows}
    assert us == {("contiguous", 1): 4, ("eplb", 1): 5, ("contiguous", 2): 8, ("eplb", 2): 10}
    assert [row["speed_up"] for row in rows] == [1, 0.8, 0.5, 0.4]


def test_speed_ups_are_over_the_same_cluster_in_whatever_order_it_is_asked_for():
    """Two links of one name, and the cut in two asked for first."""
    steps = of_counts([4, 4, 4, 4], [4, 4, 4, 4])
    slow = replace(FREE, inside_bytes_per_s=1e6)
    clusters = [replace(link, micro_batches=parts) for parts in (2, 1) for link in (FREE, slow)]
    rows = rows_of(steps, ["contiguous", "lpt"], clusters, line="1000,0")
    assert [row["speed_up"] for row in rows if row["micro_batches"] == 1 and row["system"] == "contiguous"] == [1, 1]
    for at, plain in ((0, 4), (2, 6)):
        assert rows[at]["speed_up"] == rows[plain]["mean_step_ms"] / rows[at]["mean_step_ms"]


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("nodes", [1, 2])
def test_what_a_step_is_split_into_adds_up(nodes, micro_batches):
    rng = np.random.default_rng(0)
    steps = steps_of(rng.random((4, 32, 3, 8)).argsort(3)[..., :2], 8, 2)
    slow = replace(
        FREE, inside_latency_ns=300, inside_bytes_per_s=1e6, network_latency_ns=2000, network_bytes_per_s=3e5,
        nodes=nodes, micro_batches=micro_batches,
    )  # fmt: skip
    for row in rows_of(steps, ["contiguous", "smartmoe-adaptive", "eplb"], [slow], [4], devices=4, line="500,100"):
        parts = [row[f"{name}_ms"] for name in ("dense", "expert", "wire", "waiting")]
        assert sum(parts) == pytest.approx(row["mean_step_ms"])
        assert min(parts) >= 0
        assert (row["network_bytes_per_step"] > 0) == (nodes > 1)
        assert row["judged_steps"] == 2
        assert row["step_tokens"] == 32


def test_stretches_of_steps_take_as_long_as_the_same_steps_together():
    """An adaptive system that adopts the same placement again and again is the one that keeps it."""
    rng = np.random.default_rng(1)
    steps = steps_of(rng.random((6, 20, 2, 8)).argsort(3)[..., :2], 8, 2)
    kept, anew = rows_of(steps, ["contiguous", "round-robin-adaptive"], devices=4)
    again = rows_of(steps, ["round-robin"], devices=4)[0]
    assert {name for name in anew if anew[name] != again[name]} == {"system", "speed_up"}
    assert kept["known"] == anew["known"] == "none"


@pytest.mark.parametrize("name", ["lpt", "eplb", "co-activation", "smartmoe-adaptive", "eplb-adaptive"])
def test_nothing_is_planned_from_what_it_serves(name):
    """Other tokens in a step change no placement up to and with that step."""
    rng = np.random.default_rng(2)
    tokens = rng.random((6, 40, 2, 8)).argsort(3)[..., :2]
    system = systems_of([name], [4])[0]
    before = placements(system, steps_of(tokens, 8, 3))
    for step in range(3, 6):
        changed = tokens.copy()
        changed[step:] = rng.integers(0, 2, (6 - step, 40, 2, 1))
        after = placements(system, steps_of(changed, 8, 3))
        assert all((before[at] == after[at]).all() for at in range(3, step + 1))
    other = tokens.copy()
    other[:3] = [0, 1]
    assert any((before[at] != placements(system, steps_of(other, 8, 3))[at]).any() for at in range(3, 6))


def placements(system, steps):
    found = {}
    for stretch in stretches_of(system, steps, 4, 1, EVERY_STEP):
        found |= dict.fromkeys(range(stretch.start, stretch.stop), stretch.expert_LP)
    assert sorted(found) == list(range(steps.first, len(steps.points.load_SLE)))
    return found


def test_an_adaptive_system_follows_a_load_that_moves():
    """The hot experts change places: what was planned before is wrong, what is planned from the last step is right."""
    first, second = [9, 1, 1, 1], [1, 1, 1, 9]
    steps = of_counts(first, first, first, second, second, second)
    slow = replace(FREE, inside_bytes_per_s=1e9)
    rule = RebalanceRule(window=1, threshold=1)
    once, anew = rows_of(steps, ["eplb", "eplb-adaptive"], [slow], redundant=[2], rule=rule)
    assert anew["mean_step_ms"] < once["mean_step_ms"]
    assert once["device_max_over_mean"] == pytest.approx(10 / 6)  # the hot expert and half of two that are replicated
    assert anew["device_max_over_mean"] == pytest.approx((10 / 6 + 1 + 1) / 3)
    assert (once["replans"], once["copies_per_replan"], once["copy_ms"]) == (0, 0, 0)
    # The hot expert goes to the device that lacks it, another one back in its place: 100 bytes at 1 GB/s, at once.
    assert (anew["replans"], anew["copies_per_replan"], anew["copy_ms"]) == (1, 2, 100e-6)


def loads(counts, used_k=1):
    """A load trace of one layer with these counts [S, E]."""
    load = np.array(counts, np.int64)[:, None, None, None]
    return LoadTrace(
        model=ModelInfo(name="toy", experts=load.shape[-1], used_k=used_k, layer_ids=(0,)),
        data={"name": "toy", "digest": None, "note": None}, load_SRMLE=load,
        iteration_S=np.arange(len(load)), rank_R=np.zeros(1, np.int32),
    )  # fmt: skip


def test_counts_of_one_expert_a_token_are_tokens():
    counts = [[3, 1], [2, 2], [4, 0], [1, 2], [9, 9]]
    steps = judged_steps(loads(counts), "x", "all", 36, None)
    assert steps.points.load_SLE[:, 0].tolist() == [[5, 3], [5, 2]]  # two together: half of all at most
    assert (steps.tokens, steps.first) == (8, 1)
    for load_E, tokens in zip(steps.points.load_SLE[:, 0], steps.points.experts_SNLK[:, :, 0, 0], strict=True):
        assert np.bincount(tokens[tokens >= 0], minlength=2).tolist() == load_E.tolist()


@pytest.mark.parametrize(
    ("recorded", "phase", "judged", "said"),
    [
        (loads([[3, 1], [2, 2]], used_k=2), "all", None, "with 2 experts a token do not tell which ones"),
        (loads([[3, 1]]), "all", None, "1 iterations with selections, allowed: at least two"),
        (loads([[3, 1], [2, 2]]), "decode", None, "counts have no phase, allowed: --phase all"),
        (loads([[3, 1], [2, 2]]), "later", None, "phase"),
        (loads([[3, 1], [2, 2]]), "all", 2, "--judged is 2, allowed 1..1 of 2 steps"),
    ],
)
def test_what_cannot_be_cut_into_steps_is_refused(recorded, phase, judged, said):
    with pytest.raises(InputError, match=said):
        judged_steps(recorded, "x", phase, 4, judged)


class LawCosts:
    """Costs of the steps that were worked out independently."""

    table, digest = None, "law"

    def cost(self, rng):
        return lambda layer, block, tokens: 5200 + 45 * tokens if block else 30_000 + 150 * tokens

    def check_dense(self, layers):
        pass


@pytest.fixture(scope="module")
def law():
    """The trace in steps of 256 tokens, its last four judged."""
    experts = np.load(LAW)["experts"].astype(np.int16)
    # What is left over are rows before all others: planners know them, too.
    filled = np.full((-len(experts) % 256, *experts.shape[1:]), -1, np.int16)
    tokens = np.concatenate([filled, experts]).reshape(-1, 256, *experts.shape[1:])
    return steps_of(tokens, 64, len(tokens) - 4)


@pytest.mark.skipif(not (NUMBERS.exists() and LAW.exists()), reason="the published numbers are not here")
@pytest.mark.parametrize("nodes", [1, 2])
def test_steps_of_a_recorded_model_to_the_nanosecond(law, nodes):
    published = json.loads(NUMBERS.read_text())["cluster"][f"law-D8-N{nodes}"]
    h800 = replace(
        FREE, nodes=nodes, inside_latency_ns=2000, inside_bytes_per_s=160e9, network_latency_ns=5000,
        network_bytes_per_s=50e9, dispatch_bytes=2112, combine_bytes=4096,
    )  # fmt: skip
    systems = (System("contiguous"), System("lpt"), System("co-activation=0.05"))
    clusters = [replace(h800, micro_batches=parts) for parts in (1, 2)]
    for row in step_rows(law, Asked(systems, tuple(clusters), 8, EVERY_STEP), LawCosts()):
        name = row["system"].replace("co-activation=", "co_activation-")
        wanted = published[f"{name}-direct-M{row['micro_batches']}"]
        assert row["mean_step_ms"] * 1e6 == pytest.approx(wanted["step_ns"], abs=0.01)
        assert row["network_bytes_per_step"] * 4 == wanted["inter_bytes"]
        for share in ("dense", "expert", "straggler"):
            assert row[f"{share}_ms"] / row["mean_step_ms"] == pytest.approx(wanted[share], abs=6e-6)
