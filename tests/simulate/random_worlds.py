"""Random small worlds for hypothesis: workloads with empty slots and several tokens, steps and devices."""

from hypothesis import strategies as st
from worlds import config, world


@st.composite
def workloads(draw, several=None, max_experts=4):
    """Draw a workload of up to 12 tokens, 3 layers and a few experts; rows of a pass stand together."""
    E, L = draw(st.integers(1, max_experts)), draw(st.integers(1, 3))
    K = draw(st.integers(1, min(E, 3)))
    row = st.lists(st.integers(0, E - 1), min_size=0, max_size=K, unique=True)
    passes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))  # tokens of each pass
    experts = [[draw(row) for _ in range(L)] for _ in range(sum(passes))]
    several = draw(st.booleans()) if several is None else several  # sequences of several passes, or one pass each
    sequence, step, count = [], [], {}
    for p, tokens in enumerate(passes):
        owner = draw(st.integers(0, 2)) if several else p
        sequence += [owner] * tokens
        step += [count.get(owner, 0)] * tokens
        count[owner] = count.get(owner, 0) + 1
    by_step = sorted(range(len(step)), key=lambda t: step[t])  # stable: rows stand in execution order
    return world(
        [experts[t] for t in by_step], E, [sequence[t] for t in by_step], [step[t] for t in by_step],
        sequences=draw(st.none() | st.integers(1, 8)),
    )  # fmt: skip


@st.composite
def settings(draw, experts, arrivals=("all", "closed", "poisson", "steps"), **given):
    """Draw a configuration of queues that suits a number of experts."""
    arrivals = draw(st.sampled_from(arrivals))
    fields = {
        "queue_size": draw(st.integers(1, 4)),
        "dense_queue_size": draw(st.none() | st.integers(1, 3)),
        "timeout_ns": draw(st.none() | st.integers(0, 30)),
        "dense": draw(st.booleans()),
        "devices": draw(st.integers(1, min(3, experts))),
        "arrivals": arrivals,
    }
    if arrivals == "closed":
        fields["in_flight"] = draw(st.integers(1, 4))
    if arrivals == "poisson":
        fields |= {"rate_per_s": draw(st.sampled_from([2e7, 1e8, 1e9])), "seed": draw(st.integers(0, 9))}
    return config(**{**fields, **given})


@st.composite
def costs(draw):
    """Draw a cost that depends on the block and the size, is often equal between blocks, and may be zero."""
    steps = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    per_token = draw(st.integers(0, 3))
    return lambda layer, block, tokens: steps[(3 * layer + block) % len(steps)] + per_token * (tokens - 1)
