"""On random worlds the engine does what simulate/README.md says, literally, and loses, doubles and reorders nothing."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from literal import Literal
from random_worlds import costs, settings, workloads
from worlds import run, world

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.instant import Replay

quick = hypothesis_settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
NO_QUEUES = {"queue_size": 1, "dense_queue_size": None, "timeout_ns": None}
FIELDS = ("device", "layer", "block", "members", "tokens", "ready_ns", "start_ns", "end_ns", "forced")


@st.composite
def runs(draw, **given_fields):
    workload = draw(workloads())
    return workload, draw(settings(workload.experts, **given_fields)), draw(costs())


@given(runs())
@hypothesis_settings(quick, max_examples=300)
def test_every_batch_is_that_of_the_literal_reading(drawn):
    workload, config, cost = drawn
    replay, reference = run(workload, config, cost), Literal(workload, config, cost)
    expected = [{name: batch[name] for name in FIELDS} for batch in reference.run()]
    assert [{name: getattr(batch, name) for name in FIELDS} for batch in replay.recording.batches] == expected
    assert dict(enumerate(replay.recording.end_ns_P)) == reference.end_ns


def run_like_an_executor(workload, config, cost):
    """Play a run as real executions do: successors first, then the clock, then what fell due meanwhile."""
    bound = []
    replay = Replay(workload, config, bound.append)
    replay.play(0)
    while bound or replay.next_due() is not None:
        if not bound:
            replay.play(replay.next_due())
            continue
        batch = bound.pop()
        completion = (batch, replay.rules.retire(batch))
        batch.end_ns = batch.start_ns + cost(batch.layer, batch.block, batch.tokens)
        while (due := replay.next_due()) is not None and due < batch.end_ns:
            replay.play(due)
        replay.play(batch.end_ns, [completion])
    return replay


@given(runs(devices=1, arrivals=("poisson", "poisson", "closed")), st.booleans(), st.sampled_from([None, 1, 2]))
@hypothesis_settings(quick, max_examples=150)
def test_a_driver_that_retires_before_it_reads_its_clock_gets_the_same_run(drawn, lockstep, max_step):
    workload, config, cost = drawn
    if lockstep:
        config = replace(config, scheduler="lockstep", max_step=max_step, **NO_QUEUES)
    takes_time = lambda layer, block, tokens: 1 + cost(layer, block, tokens)  # noqa: E731
    engine, driver = run(workload, config, takes_time), run_like_an_executor(workload, config, takes_time)
    first, second = engine.recording.records({"config": {}}), driver.recording.records({"config": {}})
    for name in first.passes:
        assert first.passes[name].tolist() == second.passes[name].tolist()
    for name in first.batches:
        assert first.batches[name].tolist() == second.batches[name].tolist()


def members_due(workload, dense):
    """Return how often every (layer, block, member) has to be served: once."""
    due = Counter()
    for token, row in enumerate(workload.row_N.tolist()):
        for layer in range(workload.layers):
            due.update((layer, 1 + e, token) for e in workload.experts_TLK[row, layer].tolist() if e >= 0)
    if dense:
        due.update((layer, 0, p) for layer in range(workload.layers + 1) for p in range(workload.passes))
    return due


@given(runs())
@quick
def test_every_selection_and_every_dense_stage_is_served_once(drawn):
    workload, config, cost = drawn
    batches = run(workload, config, cost).recording.batches
    served = Counter((b.layer, b.block, member) for b in batches for member in b.members)
    assert served == members_due(workload, config.dense)


def lockstep_log(workload, config, cost):
    """Return the batches of passes that are all there from the start: step after step, stage after stage."""
    log, now = [], 0
    working = [p for p in range(workload.passes) if config.dense or workload.selections_PL[p].any()]
    for first in range(0, len(working), config.max_step):
        step = working[first : first + config.max_step]
        tokens = [t for t in range(len(workload.row_N)) if workload.pass_N[t] in step]
        for layer in range(workload.layers + 1):
            blocks = {0: step} if config.dense else {}
            for stage in (blocks, chosen_by_block(workload, tokens, layer)):
                for block, members in sorted(stage.items()):
                    start, size = now, len(members) if block else int(workload.tokens_P[members].sum())
                    now += cost(layer, block, size)
                    log.append((start, now, layer, block, members))
    return log


def chosen_by_block(workload, tokens, layer):
    """Return {1+e: tokens} of a layer; nothing for what follows the last one."""
    chosen = defaultdict(list)
    for token in tokens if layer < workload.layers else ():
        for e in workload.experts_TLK[workload.row_N[token], layer].tolist():
            if e >= 0:
                chosen[1 + e].append(token)
    return chosen


@given(workloads(several=False), st.integers(1, 4), st.booleans(), costs())
@quick
def test_lockstep_runs_steps_of_waiting_passes_stage_by_stage(workload, max_step, dense, cost):
    config = RunConfig(scheduler="lockstep", max_step=max_step, dense=dense)
    batches = run(workload, config, cost).recording.batches
    found = [(b.start_ns, b.end_ns, b.layer, b.block, b.members) for b in batches]
    assert found == lockstep_log(workload, config, cost)


@given(runs(), st.sampled_from([None, 1, 2, 3]))
@quick
def test_lockstep_serves_everything_once_under_every_arrival_process(drawn, max_step):
    workload, config, cost = drawn
    config = replace(config, scheduler="lockstep", max_step=max_step, **NO_QUEUES)
    batches = run(workload, config, cost).recording.batches
    served = Counter((b.layer, b.block, member) for b in batches for member in b.members)
    assert served == members_due(workload, config.dense)


def entered_ns(workload, replay):
    """Return when every (layer, block, member) began to wait: the arrival, or the end of the stage before."""
    ends = defaultdict(int)  # (pass, stage) -> end of its last batch
    for batch in replay.recording.batches:
        stage = 2 * batch.layer + (batch.block > 0)
        for member in batch.members:
            p = int(workload.pass_N[member]) if batch.block else member
            ends[p, stage] = max(ends[p, stage], batch.end_ns)
    stages_of = defaultdict(list)
    for p, stage in sorted(ends):
        stages_of[p].append(stage)
    entered = {}
    for p, stages in stages_of.items():
        moments = [replay.recording.arrival_ns_P[p], *(ends[p, stage] for stage in stages)]
        entered |= {(p, stage): moment for stage, moment in zip(stages, moments, strict=False)}
    return entered


@given(runs())
@quick
def test_queues_are_first_in_first_out_and_batches_are_full_unless_forced_or_timed_out(drawn):
    workload, config, cost = drawn
    replay = run(workload, config, cost)
    entered, last = entered_ns(workload, replay), defaultdict(lambda: (-1, -1))
    for batch in replay.recording.batches:
        size = config.dense_queue_size if batch.block == 0 and config.dense_queue_size else config.queue_size
        assert 1 <= len(batch.members) <= size
        assert batch.ready_ns <= batch.start_ns <= batch.end_ns
        waits = []
        for member in batch.members:
            p = int(workload.pass_N[member]) if batch.block else member
            since = entered[p, 2 * batch.layer + (batch.block > 0)]
            assert since <= batch.start_ns
            assert last[batch.layer, batch.block][0] <= since  # nobody overtakes
            last[batch.layer, batch.block] = (since, member)
            waits.append(batch.start_ns - since)
        if len(batch.members) < size:
            overdue = config.timeout_ns is not None and max(waits) >= config.timeout_ns
            assert batch.forced != overdue
        if config.timeout_ns is not None:
            assert not batch.forced


@given(runs())
@quick
def test_a_device_runs_one_batch_at_a_time_and_never_idles_beside_a_ready_queue_of_its_own(drawn):
    workload, config, cost = drawn
    replay = run(workload, config, cost)
    busy_until = defaultdict(int)
    for batch in replay.recording.batches:
        assert batch.start_ns >= busy_until[batch.device]
        assert batch.start_ns == max(batch.ready_ns, busy_until[batch.device])
        assert batch.end_ns - batch.start_ns == cost(batch.layer, batch.block, batch.tokens)
        busy_until[batch.device] = batch.end_ns


@given(st.permutations(range(5)), st.integers(1, 4), st.none() | st.integers(0, 2_000_000), st.integers(0, 9))
@quick
def test_renaming_experts_permutes_blocks_and_changes_no_time(names, queue_size, timeout_ns, seed):
    # One layer and one selection per token: no two queues ever become ready at the same instant, so no tie is broken
    # by an expert's number.
    chosen = np.random.default_rng(seed).integers(0, 5, 40).tolist()
    config = RunConfig(
        queue_size=queue_size, timeout_ns=timeout_ns, arrivals="poisson", rate_per_s=1e3, seed=seed, dense=False
    )
    plain, renamed = (
        run(world([[[e]] for e in experts], 5), config, lambda layer, block, tokens: (500 + 300 * tokens) * 1000)
        for experts in (chosen, [names[e] for e in chosen])
    )
    assert [(1 + names[b.block - 1], *times(b)) for b in plain.recording.batches] == [
        (b.block, *times(b)) for b in renamed.recording.batches
    ]


def times(batch):
    return batch.members, batch.ready_ns, batch.start_ns, batch.end_ns, batch.forced


@given(runs(devices=1))
@quick
def test_one_pass_in_flight_and_queues_of_one_are_the_plain_sequential_sum_of_costs(drawn):
    workload, config, cost = drawn
    alone = {"arrivals": "closed", "in_flight": 1, "rate_per_s": None, "speed": 1.0, "seed": None}
    config = replace(config, **NO_QUEUES, **alone)
    replay = run(workload, config, cost)
    total = 0
    for p in range(workload.passes):
        assert replay.recording.arrival_ns_P[p] == total
        tokens = int(workload.tokens_P[p])
        for layer in range(workload.layers + 1):
            total += cost(layer, 0, tokens) if config.dense else 0
            if layer < workload.layers:
                chosen = workload.experts_TLK[workload.first_row_P[p] : workload.last_row_P[p] + 1, layer]
                total += sum(cost(layer, 1 + e, 1) for e in chosen[chosen >= 0].tolist())
        assert replay.recording.end_ns_P[p] == total
