"""Tiny worlds whose whole logs can be worked out in the margin: the order at one instant, and what a queue is.

A log line is `start-end device layer.block members`; block 1+e is expert e, block 0 the dense part. No dense part
unless a test says so. Batches take 10 ns unless a test says so.
"""

from worlds import config, fixed, log, run, world

ONE_EXPERT = [[0]]
TEN = fixed(10)


def test_a_queue_of_two_runs_full_batches_and_the_rest_is_forced():
    seven = world([ONE_EXPERT] * 7, E=1)
    assert log(seven, config(queue_size=2), TEN, arrival_ns=[0, 1, 2, 3, 4, 5, 6]) == [
        "1-11 d0 0.1 [0, 1]",
        "11-21 d0 0.1 [2, 3] ready 3",
        "21-31 d0 0.1 [4, 5] ready 11",  # ready since the rest rejoined the list
        "31-41 d0 0.1 [6] forced",
    ]


def test_members_are_bound_when_the_device_takes_the_queue_not_when_it_became_ready():
    three = world([ONE_EXPERT] * 3, E=1)
    assert log(three, config(queue_size=4, timeout_ns=5), TEN, arrival_ns=[0, 6, 12]) == [
        "5-15 d0 0.1 [0]",
        "15-25 d0 0.1 [1, 2] ready 11",  # token 2 came after the time-out of token 1
    ]


def test_a_queue_whose_rest_is_ready_goes_to_the_end_of_the_list():
    tokens = world([[[0]], [[0]], [[1]]], E=2)
    assert log(tokens, config(queue_size=1), TEN) == [
        "0-10 d0 0.1 [0]",
        "10-20 d0 0.2 [2] ready 0",
        "20-30 d0 0.1 [1] ready 0",
    ]


def test_queues_that_become_ready_together_join_in_order_of_their_blocks():
    tokens = world([[[1]], [[0]]], E=2)
    assert log(tokens, config(queue_size=1), TEN) == ["0-10 d0 0.1 [1]", "10-20 d0 0.2 [0] ready 0"]


def test_completions_come_devices_ascending_and_the_stall_rule_forces_one_queue_on_every_device():
    tokens = world([[[1], [0]], [[0], [0]]], E=2)  # token 0: expert 1, then 0; token 1: expert 0, then 0
    assert log(tokens, config(queue_size=2, devices=2), TEN) == [
        "0-10 d0 0.1 [1] forced",
        "0-10 d1 0.2 [0] forced",
        "10-20 d0 1.1 [1, 0]",  # both end at 10, device 0 first
    ]


def test_events_are_sorted_by_device_whatever_the_order_they_were_planned_in():
    tokens = world([[[1], [0]], [[0], [0]]], E=2)
    assert log(tokens, config(queue_size=1, devices=2), TEN, arrival_ns=[0, 4]) == [
        "0-10 d1 0.2 [0]",
        "4-14 d0 0.1 [1]",
        "14-24 d0 1.1 [0] ready 10",
        "24-34 d0 1.1 [1] ready 14",
    ]
    slower_first = lambda layer, block, tokens: 14 if block == 2 else 10  # noqa: E731
    assert log(tokens, config(queue_size=1, devices=2), slower_first, arrival_ns=[0, 4]) == [
        "0-14 d1 0.2 [0]",
        "4-14 d0 0.1 [1]",
        "14-24 d0 1.1 [1]",  # the batch on device 1 was planned first, the one on device 0 is handled first
        "24-34 d0 1.1 [0] ready 14",
    ]


def test_a_token_that_arrives_when_the_time_out_is_due_still_joins_the_batch():
    two = world([ONE_EXPERT] * 2, E=1)
    assert log(two, config(queue_size=3, timeout_ns=5), TEN, arrival_ns=[0, 5]) == ["5-15 d0 0.1 [0, 1]"]


def test_a_time_out_and_a_full_queue_of_one_instant_join_in_order_of_their_blocks():
    tokens = world([[[1]], [[0]], [[0]]], E=2)
    assert log(tokens, config(queue_size=2, timeout_ns=5), TEN, arrival_ns=[0, 4, 5]) == [
        "5-15 d0 0.1 [1, 2]",
        "15-25 d0 0.2 [0] ready 5",
    ]


def test_the_rest_of_a_queue_keeps_the_time_at_which_its_own_head_began_to_wait():
    tokens = world([ONE_EXPERT] * 3, E=1)
    assert log(tokens, config(queue_size=2, timeout_ns=30), TEN, arrival_ns=[0, 7, 9]) == [
        "7-17 d0 0.1 [0, 1]",
        "39-49 d0 0.1 [2]",  # 9 + 30
    ]


def test_a_rest_that_is_overdue_rejoins_at_once():
    tokens = world([[[1]], [[0]], [[0]], [[0]]], E=2)
    long_first = lambda layer, block, tokens: 50 if block == 2 else 10  # noqa: E731
    assert log(tokens, config(queue_size=2, timeout_ns=5), long_first, arrival_ns=[0, 6, 7, 8]) == [
        "5-55 d0 0.2 [0]",
        "55-65 d0 0.1 [1, 2] ready 7",
        "65-75 d0 0.1 [3] ready 55",  # due at 13, so ready as soon as it is the head
    ]


def test_a_time_out_that_arises_while_a_later_arrival_is_planned_is_not_missed():
    two = world([[[0], [0]]] * 2, E=1)
    assert log(two, config(queue_size=2, timeout_ns=5), TEN, arrival_ns=[0, 1000])[:2] == [
        "5-15 d0 0.1 [0]",
        "20-30 d0 1.1 [0]",
    ]


def test_time_out_zero_drains_whatever_waits():
    five = world([ONE_EXPERT] * 5, E=1)
    assert log(five, config(queue_size=3, timeout_ns=0), TEN, arrival_ns=[0, 1, 2, 3, 4]) == [
        "0-10 d0 0.1 [0]",
        "10-20 d0 0.1 [1, 2, 3] ready 1",
        "20-30 d0 0.1 [4] ready 10",
    ]


def test_stall_forces_the_longest_waiting_head_then_the_lowest_layer_then_the_lowest_block():
    tokens = world([[[2]], [[1]], [[0]]], E=3)
    assert log(tokens, config(queue_size=9), TEN, arrival_ns=[0, 1, 1]) == [
        "1-11 d0 0.3 [0] forced",
        "11-21 d0 0.1 [2] forced",  # block 1 before block 2: both heads wait since 1
        "21-31 d0 0.2 [1] forced",
    ]
    # All enter at 0: queue 0.1 holds passes 0 and 2, queue 1.1 holds pass 1.
    layers = world([[[0], [0]], [[], [0]], [[0], []]], E=1)
    assert log(layers, config(queue_size=9), TEN) == [
        "0-10 d0 0.1 [0, 2] forced",
        "10-20 d0 1.1 [1, 0] forced",
    ]


def test_no_stall_while_an_arrival_is_still_to_come():
    two = world([ONE_EXPERT] * 2, E=1)
    assert log(two, config(queue_size=2), TEN, arrival_ns=[0, 1000]) == ["1000-1010 d0 0.1 [0, 1]"]


def test_batches_that_take_no_time_are_completed_in_further_rounds_of_the_same_instant():
    two = world([[[0], [0]]] * 2, E=1)
    assert log(two, config(queue_size=1), fixed(0), arrival_ns=[5, 5]) == [
        "5-5 d0 0.1 [0]",
        "5-5 d0 0.1 [1]",  # rejoined the list before layer 1 became ready
        "5-5 d0 1.1 [0]",
        "5-5 d0 1.1 [1]",
    ]


def test_a_zero_duration_and_a_released_sequence_share_the_further_round():
    tokens = world([[[0], []], [[0], [0]], [[0], []]], E=1)  # pass 0 and 2 have layer 0 only
    no_time = lambda layer, block, tokens: 0 if layer == 0 else 10  # noqa: E731
    settings = config(queue_size=2, timeout_ns=0, arrivals="closed", in_flight=2)
    assert log(tokens, settings, no_time) == [
        "0-0 d0 0.1 [0, 1]",
        "0-10 d0 1.1 [1]",  # round 2: its members moved on; pass 0 finished, so pass 2 arrives in round 3
        "10-10 d0 0.1 [2] ready 0",
    ]


def test_a_closed_loop_releases_the_next_sequence_in_a_further_round():
    tokens = world([[[0], []], [[0], [0]], [[0], []]], E=1)
    settings = config(queue_size=2, timeout_ns=0, arrivals="closed", in_flight=2)
    assert log(tokens, settings, TEN) == [
        "0-10 d0 0.1 [0, 1]",
        "10-20 d0 1.1 [1]",  # pass 2 arrives at 10 too, but after the device took layer 1
        "20-30 d0 0.1 [2] ready 10",
    ]


def test_a_closed_loop_keeps_so_many_sequences_in_flight():
    four = world([ONE_EXPERT] * 4, E=1)
    settings = config(queue_size=2, arrivals="closed", in_flight=3)
    replay = run(four, settings, TEN)
    assert replay.recording.arrival_ns_P == [0, 0, 0, 10]
    assert replay.recording.end_ns_P == [10, 10, 20, 20]


def test_empty_slots_move_on_at_once_and_a_pass_without_any_selection_ends_when_it_arrives():
    tokens = world([[[], [0]], [[], []], [[0], []]], E=1)
    replay = run(tokens, config(queue_size=1), TEN, arrival_ns=[3, 3, 3])
    assert [(batch.layer, batch.members) for batch in replay.recording.batches] == [(0, [2]), (1, [0])]
    assert replay.recording.end_ns_P == [23, 3, 13]
    table = replay.recording.records({"config": {}}).passes
    assert table["start_ns"].tolist() == [13, 3, 3]


def test_a_pass_of_two_tokens_goes_through_dense_blocks_and_waits_for_both():
    tokens = world([[[0]], [[1]]], E=2, sequence=[0, 0])  # one pass: token 0 to expert 0, token 1 to expert 1
    per_token = lambda layer, block, tokens: 10 * tokens  # noqa: E731
    assert log(tokens, config(queue_size=1, dense=True), per_token) == [
        "0-20 d0 0.0 [0]",  # dense queues hold passes and cost by tokens
        "20-30 d0 0.1 [0]",
        "30-40 d0 0.2 [1] ready 20",
        "40-60 d0 1.0 [0]",  # what follows the last layer
    ]


def test_dense_queues_count_passes_and_may_have_their_own_size():
    tokens = world([[[0]]] * 4, E=1, sequence=[0, 0, 1, 1])  # two passes of two tokens
    per_token = lambda layer, block, tokens: 10 * tokens  # noqa: E731
    assert log(tokens, config(queue_size=4, dense_queue_size=2, dense=True), per_token) == [
        "0-40 d0 0.0 [0, 1]",
        "40-80 d0 0.1 [0, 1, 2, 3]",
        "80-120 d0 1.0 [0, 1]",
    ]


def test_selections_are_enqueued_tokens_in_row_order_and_each_tokens_in_rank_order():
    tokens = world([[[1, 0]], [[0, 1]]], E=2, sequence=[0, 0])
    replay = run(tokens, config(queue_size=2), TEN)
    assert [(batch.block, batch.members) for batch in replay.recording.batches] == [(1, [0, 1]), (2, [0, 1])]


def test_passes_of_one_sequence_run_one_after_another():
    decode = world([ONE_EXPERT] * 3, E=1, sequence=[0, 1, 0], step=[0, 0, 1])  # sequence 0 has two passes
    assert decode.sequence_P.tolist() == [0, 0, 1]
    replay = run(decode, config(queue_size=1), TEN)
    assert replay.recording.arrival_ns_P == [0, 10, 0]
    assert [batch.members for batch in replay.recording.batches] == [[0], [2], [1]]


def test_a_step_of_the_trace_arrives_when_the_step_before_it_is_done():
    steps = world([ONE_EXPERT] * 5, E=1, sequence=[0, 1, 0, 1, 2], step=[0, 0, 4, 4, 9])
    assert steps.sequence_P.tolist() == [0, 0, 1, 1, 2]
    replay = run(steps, config(queue_size=1, arrivals="steps"), TEN)
    assert replay.recording.arrival_ns_P == [0, 20, 0, 20, 40]
    assert [batch.members for batch in replay.recording.batches] == [[0], [2], [1], [3], [4]]


def test_lockstep_goes_layer_by_layer_and_runs_every_active_expert_once():
    tokens = world([[[2, 0], [1]], [[0, 2], [1]]], E=3)
    assert log(tokens, config(scheduler="lockstep", dense=True), TEN) == [
        "0-10 d0 0.0 [0, 1]",
        "10-20 d0 0.1 [0, 1]",
        "20-30 d0 0.3 [0, 1] ready 10",
        "30-40 d0 1.0 [0, 1]",
        "40-50 d0 1.2 [0, 1]",
        "50-60 d0 2.0 [0, 1]",
    ]


def test_lockstep_takes_at_most_so_many_waiting_passes_and_finishes_them_together():
    tokens = world([[[0], [0]], [[0], []], [[0], [0]]], E=1)
    replay = run(tokens, config(scheduler="lockstep", max_step=2), TEN, arrival_ns=[0, 3, 4])
    assert [(batch.start_ns, batch.layer, batch.members) for batch in replay.recording.batches] == [
        (0, 0, [0]),
        (10, 1, [0]),
        (20, 0, [1, 2]),  # both waited for the engine
        (30, 1, [2]),
    ]
    assert replay.recording.end_ns_P == [20, 40, 40]


def test_lockstep_waits_for_the_slowest_device_before_the_next_layer():
    tokens = world([[[0], [0]], [[1], [1]]], E=2)
    slow = lambda layer, block, tokens: 30 if block == 2 else 10  # noqa: E731
    assert log(tokens, config(scheduler="lockstep", devices=2), slow) == [
        "0-10 d0 0.1 [0]",
        "0-30 d1 0.2 [1]",
        "30-40 d0 1.1 [0]",
        "30-60 d1 1.2 [1]",
    ]


def test_lockstep_serves_the_steps_of_the_trace():
    steps = world([ONE_EXPERT] * 5, E=1, sequence=[0, 1, 0, 1, 2], step=[0, 0, 1, 1, 1])
    replay = run(steps, config(scheduler="lockstep", arrivals="steps"), TEN)
    assert [batch.members for batch in replay.recording.batches] == [[0, 2], [1, 3, 4]]
    assert replay.recording.arrival_ns_P == [0, 10, 0, 10, 10]
