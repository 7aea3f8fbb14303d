"""Random small worlds for hypothesis: all that is legal, with empty rows, long prompts, ties and zero durations."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from worlds import config, world


@st.composite
def workloads(draw, several=None, max_experts=4):
    """Draw a workload of up to 24 tokens, 3 layers and a few experts; rows of a pass are together.

    Rows select up to all experts, or none; passes are tokens of a decode or whole prompts. Sequences arrive at times
    that `recorded` arrivals take.
    """
    E, L = draw(st.integers(1, max_experts)), draw(st.integers(1, 3))
    K = draw(st.integers(1, E))
    row = st.lists(st.integers(0, E - 1), min_size=draw(st.sampled_from([0, 0, K])), max_size=K, unique=True)
    longest = draw(st.sampled_from([1, 3, 12]))
    passes = draw(st.lists(st.integers(1, longest), min_size=1, max_size=6 if longest < 12 else 2))  # tokens of each
    experts = [[draw(row) for _ in range(L)] for _ in range(sum(passes))]
    several = draw(st.booleans()) if several is None else several  # sequences of several passes, or one pass each
    sequence, step, count = [], [], {}
    for p, tokens in enumerate(passes):
        owner = draw(st.integers(0, 2)) if several else p
        sequence += [owner] * tokens
        step += [count.get(owner, 0)] * tokens
        count[owner] = count.get(owner, 0) + 1
    by_step = sorted(range(len(step)), key=lambda t: step[t])  # stable: rows are in execution order
    made = world(
        [experts[t] for t in by_step], E, [sequence[t] for t in by_step], [step[t] for t in by_step],
        sequences=draw(st.none() | st.integers(1, 8)),
    )  # fmt: skip
    groups = len(made.first_pass_G)
    times = draw(st.lists(st.sampled_from([0, 0, 1, 7, 50]), min_size=groups, max_size=groups))
    return replace(made, arrival_ns_G=np.cumsum(np.array(times, np.int64)))


@st.composite
def settings(draw, experts, arrivals=("all", "closed", "poisson", "steps", "recorded"), **given):
    """Draw a configuration of queues that suits a number of experts."""
    arrivals = draw(st.sampled_from(arrivals))
    fields = {
        "queue_size": draw(st.integers(1, 4) | st.sampled_from([6, 1000])),
        "dense_queue_size": draw(st.none() | st.integers(1, 3) | st.just(1000)),
        "timeout_ns": draw(st.none() | st.integers(0, 30)),
        "dense": draw(st.booleans()),
        "devices": draw(st.integers(1, experts)),
        "arrivals": arrivals,
    }
    if arrivals == "closed":
        fields["in_flight"] = draw(st.integers(1, 4) | st.just(1000))
    if arrivals == "poisson":
        fields["rate_per_s"] = draw(st.sampled_from([2e7, 1e8, 1e9]))
    if given.get("arrivals", arrivals) == "recorded":
        fields["speed"] = draw(st.sampled_from([1.0, 0.5, 3.0]))
    if arrivals == "poisson" or (arrivals != "recorded" and draw(st.booleans())):
        fields["seed"] = draw(st.integers(0, 9))
    return config(**{**fields, **given})


@st.composite
def costs(draw):
    """Draw a cost that depends on the block and the size, is often equal between blocks, and may be zero."""
    steps = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    per_token = draw(st.integers(0, 3))
    return lambda layer, block, tokens: steps[(3 * layer + block) % len(steps)] + per_token * (tokens - 1)
