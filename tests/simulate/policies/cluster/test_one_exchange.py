"""One exchange by itself: messages that can be worked out in the margin, closed forms, bounds."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_replay.simulate.policies.cluster.one_exchange import exchanged, one_link
from moe_replay.simulate.policies.cluster.ports import wire_ns


def ends(bytes_DD, latency_ns, bytes_per_s):
    """Return {(source, destination): (start, end)} of an exchange."""
    found = exchanged(np.array(bytes_DD), one_link(latency_ns, bytes_per_s))
    return {(each.source, each.destination): (each.start_ns, each.end_ns) for each in found}


def test_three_devices_by_hand():
    """A byte a ns, 5 ns of latency. Device 0 sends 10 to 1, then 20 to 2; 1 sends 30 to 2; 2 sends 40 to 0.

    At port in 2 the head of 1 is there at 5 and takes it until 35; that of 0, there at 15, waits and takes it until 55.
    """
    assert ends([[0, 10, 20], [0, 0, 30], [40, 0, 0]], 5, 1e9) == {
        (0, 1): (0, 15), (0, 2): (10, 55), (1, 2): (0, 35), (2, 0): (0, 45),
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.data())
def test_bounds_and_the_uniform_exchange(devices, data):
    latency_ns = data.draw(st.sampled_from([0, 1, 40]))
    size = data.draw(st.integers(1, 50))
    uniform = ends(np.full((devices, devices), size), latency_ns, 3e8)
    assert max(end for _, end in uniform.values()) == latency_ns + (devices - 1) * wire_ns(size, 3e8)
    bytes_DD = np.array(data.draw(st.lists(st.lists(st.integers(0, 60), min_size=devices, max_size=devices),
                                           min_size=devices, max_size=devices)))  # fmt: skip
    np.fill_diagonal(bytes_DD, 0)
    found = ends(bytes_DD, latency_ns, 1e9)
    assert found.keys() == set(zip(*map(np.ndarray.tolist, np.nonzero(bytes_DD)), strict=True))
    if found:
        most_out, most_in = bytes_DD.sum(1).max(), bytes_DD.sum(0).max()
        last = max(end for _, end in found.values())
        assert latency_ns + max(most_out, most_in) <= last <= latency_ns + most_out + most_in
