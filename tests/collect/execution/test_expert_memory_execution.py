"""Execution with expert memory: the simulator's decisions, the right weights, and time that only the clock knows."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from moe_replay.collect.datasets.text_corpus import Corpus, Domain
from moe_replay.collect.datasets.text_sources import Document
from moe_replay.collect.execution.calibration import CalibrationPlan, measure_costs
from moe_replay.collect.execution.classifier_blocks import ClassifierCalibration, ClassifierOnWeights
from moe_replay.collect.execution.executor import Executor
from moe_replay.collect.execution.language_blocks import LanguageCalibration, LanguageOnWeights
from moe_replay.collect.execution.slow_tier import Copier, Pace, packed_once
from moe_replay.collect.models.experts import Experts
from moe_replay.collect.models.language_model import LanguageConfig, LanguageModel
from moe_replay.collect.recording.language_recording import Recorder, language_header, record_prefill
from moe_replay.simulate.config.costs import CostModel
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.simpy_engine import Engine, simulate
from moe_replay.simulate.policies.memory.expert_worth import known_of
from moe_replay.simulate.policies.memory.host_link import Transfer
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.runs.run_records import RunRecords

CPU = torch.device("cpu")
FAST = {"link_latency_ns": 50_000, "link_bytes_per_s": 1e9, "expert_bytes": 4000}
LOOP = RunConfig(arrivals="closed", in_flight=1, sequences=60, seed=3)
STEPS = RunConfig(scheduler="lockstep", max_step=8, arrivals="closed", in_flight=16, sequences=120, seed=3)
DECISIONS = ("layer", "block", "size", "tokens", "forced", "hit", "members_crc")
MOVES = ("link", "layer", "expert", "slot", "victim", "prefetch")


@pytest.fixture
def images(trained, blobs):
    model, _, trace = trained
    return ClassifierOnWeights(model, trace, torch.from_numpy(blobs.test_NF), blobs.test_label_N)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A language model that was never trained, on 2 x 2 windows of 16 bytes, a byte a pass."""
    folder, draws = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    model = LanguageModel(LanguageConfig(layers=2, experts=6, k=2, width=16, hidden=8, heads=2, window=16), 3).eval()
    documents = tuple(Document(str(n), bytes(draws.integers(32, 127, 60).tolist())) for n in range(20))
    corpus = Corpus(tuple(Domain(name, documents, documents[::-1]) for name in ("a", "b")), {})
    header = language_header(model, {"training": {}}, corpus, CPU, 0, {})
    record_prefill(model, corpus, header, Recorder(model, 6), 2, 4, draws, folder / "t", stepwise=True)
    return LanguageOnWeights(model, load_trace(folder / "t"))


def with_memory(config: RunConfig, **fields) -> RunConfig:
    return replace(config, memory=MemoryConfig(**{**FAST, **fields}))


def both(real, config: RunConfig) -> tuple[RunRecords, RunRecords]:
    """The executed records of a configuration and the simulated ones, at costs of no meaning."""
    known = known_of(real.trace, None, [config.memory]) if config.memory else None
    executed = real.execute(config, {"source": "executed"}, known)
    simulated = simulate(trace_workload(real.trace, config), config, lambda *_: 1000, {}, known)
    return executed, simulated


def assert_same(first: RunRecords, second: RunRecords, batches=DECISIONS, transfers=MOVES) -> None:
    for column in batches:
        np.testing.assert_array_equal(first.batches[column], second.batches[column], column)
    for column in transfers:
        np.testing.assert_array_equal(first.transfers[column], second.transfers[column], column)


@pytest.mark.parametrize("cache", ["none", "fifo", "lru", "lfu", "lifo", "sieve", "s3fifo", "lfru", "random", "static"])
def test_blocking_loads_in_a_closed_loop_are_what_was_simulated(images, cache):
    executed, simulated = both(images, with_memory(LOOP, cache=cache, slots=3, miss="block", filled=cache == "static"))
    assert len(executed.transfers["expert"]) > 50
    assert_same(executed, simulated)
    assert executed.header["memory"] == simulated.header["memory"]
    assert executed.header["largest_output_difference"] < 1e-4


def test_a_policy_of_ones_own_decides_in_an_execution_too(images, tmp_path, monkeypatch):
    """The newest but one leaves: no shipped policy decides so."""
    (tmp_path / "executed_own.py").write_text(
        "from moe_replay.simulate.policies.caches.lru import LRU\n\n\n"
        "class Mine(LRU):\n    def victim(self, now, kept):\n"
        "        return [expert for expert in self.order if expert not in kept][-2:][0]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    executed, simulated = both(images, with_memory(LOOP, cache="executed_own:Mine", slots=3, miss="block"))
    assert_same(executed, simulated)
    plain, _ = both(images, with_memory(LOOP, cache="lru", slots=3, miss="block"))
    assert executed.transfers["victim"].tolist() != plain.transfers["victim"].tolist()


@pytest.mark.parametrize("miss", ["load", "block"])
@pytest.mark.parametrize("cache", ["lru", "lifo", "least-stale"])
@pytest.mark.parametrize("slots", [1, 2, 5])
def test_lockstep_is_what_was_simulated(images, miss, cache, slots):
    assert_same(*both(images, with_memory(STEPS, cache=cache, slots=slots, miss=miss)))


@pytest.mark.parametrize("miss", ["block", "redirect"])
def test_layers_may_have_slots_of_their_own(images, miss):
    config = with_memory(LOOP, slots=(1, 4), miss=miss, filled=miss == "redirect")
    executed, simulated = both(images, config)
    assert_same(executed, simulated)
    assert executed.header["device_bytes"] == (1 + 1 + 4 + 1) * executed.header["expert_bytes"]
    assert RunConfig.from_dict(config.as_dict()) == config
    with pytest.raises(InputError, match="slots has 3 numbers, allowed 2, one per cache"):
        images.execute(with_memory(LOOP, slots=(1, 4, 2)), {})


@pytest.mark.parametrize("miss", ["load", "block"])
def test_a_language_model_decodes_from_slots(text, miss):
    executed, simulated = both(text, with_memory(replace(LOOP, sequences=4), slots=3, miss=miss))
    assert_same(executed, simulated, ("hit",) if miss == "load" else DECISIONS)
    resident = text.execute(replace(LOOP, sequences=4), {})
    for records in (executed, resident):
        assert records.header["largest_output_difference"] < 1e-4
        assert records.header["gate_disagreements"] <= 2  # of 256; near ties
    assert executed.header["quality"] == pytest.approx(resident.header["quality"], abs=1e-5)
    assert executed.header["device_bytes"] == 2 * (3 + 1) * executed.header["expert_bytes"]


class Dictated(Engine):
    """An engine whose batches and transfers take what an execution measured, in its order."""

    def __init__(self, workload, config, executed: RunRecords, known):
        took = iter((executed.batches["end_ns"] - executed.batches["start_ns"]).tolist())
        super().__init__(workload, config, lambda *_: next(took), known)
        by_start = np.argsort(executed.transfers["start_ns"], kind="stable")
        self.moves = iter((executed.transfers["end_ns"] - executed.transfers["start_ns"])[by_start].tolist())

    def send(self, transfer):
        self.transfer_ns = next(self.moves)
        return super().send(transfer)


@pytest.mark.parametrize(
    "memory",
    [
        {"slots": 2}, {"slots": 2, "prefetch": "previous-token", "cache": "lfu"}, {"slots": 3, "scope": "global"},
        {"slots": 4, "prefetch": "popularity", "cache": "sieve"}, {"slots": 2, "miss": "block", "cache": "fifo"},
        {"slots": 3, "miss": "redirect", "cache": "importance", "filled": True, "period": 20},
        {"slots": 3, "miss": "skip", "cache": "importance", "filled": True, "period": 20},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("base", [replace(LOOP, queue_size=4, in_flight=20), STEPS], ids=["queues", "lockstep"])
def test_the_executed_order_replayed_gives_every_record_to_the_nanosecond(images, memory, base):
    """Whatever the clock did: fed with what batches and transfers took, the simulator repeats the run."""
    config = with_memory(base, **memory)
    known = known_of(images.trace, None, [config.memory])
    executed = images.execute(config, {}, known)
    engine = Dictated(trace_workload(images.trace, config), config, executed, known)
    engine.run()
    simulated = engine.replay.recording.records({})
    for kind in ("passes", "batches", "transfers"):
        for column, values in getattr(executed, kind).items():
            np.testing.assert_array_equal(values, getattr(simulated, kind)[column], f"{kind}.{column}")


def test_what_runs_under_a_mask_is_what_the_model_gives_for_it(images, monkeypatch):
    """`execute` holds the outputs to the plain pass of what ran; here: that this is not what was recorded."""
    asked, expected = [], images.expected

    def noted(workload, experts_TLK):
        asked.append(experts_TLK)
        return expected(workload, experts_TLK)

    monkeypatch.setattr(images, "expected", noted)
    config = with_memory(replace(LOOP, in_flight=4), slots=3, miss="redirect", filled=True)
    executed, simulated = both(images, config)
    workload = trace_workload(images.trace, config)
    recorded_TLK = workload.experts_TLK[workload.row_N]
    assert (asked[0] != recorded_TLK).any()
    assert len(np.unique(asked[0][:, 0])) == 3  # of six
    assert executed.header["memory"]["lost_mass"] == pytest.approx(simulated.header["memory"]["lost_mass"])
    assert executed.header["quality"]["accuracy"] <= images.execute(LOOP, {}).header["quality"]["accuracy"] + 0.1


def test_an_expert_that_is_in_no_slot_never_runs(images):
    config = with_memory(LOOP, slots=2)
    workload = trace_workload(images.trace, config)
    executor = Executor(workload, config, images.new_blocks(workload, config))
    slots = executor.slots
    x_NM = torch.zeros(1, images.model.config.width)
    with pytest.raises(RuntimeError, match="expert 1 of layer 0 was to run and is in no slot"):
        slots.run(0, 1, x_NM)
    first, second = (Transfer(0, key, 0, -1, False, 0) for key in (1, 4))
    with slots.copier:
        for transfer in (first, second):
            slots.begin(transfer)
            while slots.copier.first() is None:
                pass
            slots.arrived(slots.copier.done.popleft().transfer)
    expected = images.model.experts[0].run(4, x_NM)
    assert torch.equal(slots.run(0, 4, x_NM), expected)
    with pytest.raises(RuntimeError, match="expert 1 of layer 0"):
        slots.run(0, 1, x_NM)  # its slot has another's weights


def test_copies_keep_their_order_and_their_pace():
    source_KF, target_SF = torch.arange(12.0).view(3, 4), torch.zeros(2, 4)
    pace = Pace(2_000_000, 1e9)
    with Copier(source_KF, target_SF, pace) as copier:
        for key, slot in ((2, 0), (0, 1), (1, 0)):
            copier.copy(Transfer(0, key, slot, -1, False, 0), slot)
    done = list(copier.done)
    assert [copied.transfer.key for copied in done] == [2, 0, 1]
    assert all(copied.end_ns - copied.start_ns >= pace.least_ns(16) == 2_000_016 for copied in done)
    assert all(after.start_ns >= before.end_ns for before, after in pairwise(done))
    assert target_SF.tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]


def test_a_copying_thread_that_fails_is_heard():
    with Copier(torch.zeros(1, 4), torch.zeros(1, 4), None) as copier:
        copier.copy(Transfer(0, 7, 0, -1, False, 0), 0)
    with pytest.raises(RuntimeError, match="the copying thread failed"):
        copier.first()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cache": "belady"}, "needs to know the future"),
        ({"prefetch": "oracle"}, "needs to know the future"),
        ({"miss": "host", "filled": True}, "miss is 'host', allowed load, block, redirect, skip"),
        ({"link": "wide"}, "link is 'wide', allowed 'fifo'"),
        ({"slots": 7}, "slots"),
    ],
)
def test_what_no_machine_can_do_is_refused(images, fields, message):
    config = with_memory(LOOP, **fields)
    with pytest.raises(InputError, match=message):
        images.execute(config, {}, known_of(images.trace, None, [config.memory]))


@pytest.mark.parametrize("kind", ["images", "text"])
def test_costs_are_measured_for_every_way_of_keeping_experts(kind, images, text, blobs):
    model = {"images": images.model, "text": text.model}[kind]
    calibration = LanguageCalibration(model)
    if kind == "images":
        calibration = ClassifierCalibration(model, torch.from_numpy(blobs.train_NF))
    plan, memory = CalibrationPlan(sizes=(1, 3), repetitions=2), MemoryConfig(slots=2, **FAST)
    table = measure_costs(calibration, 2, plan, {}, memory)
    assert table.header["link"] == memory.link_fields
    assert CostModel(table).transfer_ns(replace(memory, slots=4)) > memory.transfer_ns  # a copy wakes up late
    assert CostModel(table).transfer_ns(replace(memory, expert_bytes=1)) is None
    assert CostModel(table).cost(None)(0, 1, 2) > 0
    masked = measure_costs(calibration, 2, plan, {}, replace(memory, miss="redirect", filled=True))
    assert (masked.header["miss"], masked.header.get("link")) == ("redirect", None)
    assert set(masked.dense_layers) == set(table.dense_layers) == {0, 1, 2}


def test_the_slow_tier_is_packed_again_where_weights_have_changed():
    """Runs of one model share a copy; one that is out of date would be computed with, and no check would see it."""
    experts_L = [Experts(3, 4, 5, 4, torch.Generator().manual_seed(0)) for _ in range(2)]
    packed_KF = packed_once(experts_L, pinned=False)
    assert packed_once(experts_L, pinned=False) is packed_KF
    assert packed_KF.shape == (6, 4 * 5 + 5 + 5 * 4 + 4)
    torch.testing.assert_close(packed_KF[4, :20].view(4, 5), experts_L[1].w1_EMH[1].detach())
    with torch.no_grad():
        experts_L[1].w1_EMH[1] += 1
    again_KF = packed_once(experts_L, pinned=False)
    torch.testing.assert_close(again_KF[4, :20].view(4, 5), experts_L[1].w1_EMH[1].detach())
    with torch.no_grad():
        experts_L[0].b1_EH = torch.nn.Parameter(experts_L[0].b1_EH + 1)
    torch.testing.assert_close(packed_once(experts_L, pinned=False)[0, 20:25], experts_L[0].b1_EH[0].detach())
