"""DeepEP's published low-latency times beside ports: fitted on 16 and 32 GPUs, held out 64, 128 and 256.

Figures: DeepEP, README, "Low-latency kernels with pure RDMA" (github.com/deepseek-ai/DeepEP): H800, one 400 Gbit/s
InfiniBand card a GPU, 128 tokens a GPU, width 7168, top 8 experts, dispatch in FP8, combine in BF16.
"""

from itertools import product

import pytest

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.policies.cluster.one_exchange import carry
from moe_replay.simulate.policies.cluster.ports import DISPATCH, Message, Ports

PUBLISHED_US = {
    "dispatch": {16: 118, 32: 155, 64: 173, 128: 192, 256: 194},
    "combine": {16: 195, 32: 273, 64: 314, 128: 369, 256: 360},
}
FITTED, HELD_OUT = (16, 32), (64, 128, 256)
GPUS_PER_NODE, SELECTIONS = 8, 128 * 8  # selections of a GPU's tokens; each is sent by itself
# A value of FP8 and a scale of four bytes for 128 of them, or values of BF16.
BYTES = {"dispatch": 7168 + 7168 // 128 * 4, "combine": 7168 * 2}


def through_ports_ns(devices, latency_ns, wire_of_selection_ns):
    """Return how long an exchange of single selections takes, a round of all other devices at a time."""
    link = ClusterConfig(
        links="DeepEP", nodes=devices // GPUS_PER_NODE, network_latency_ns=latency_ns,
        network_bytes_per_s=1e9 / wire_of_selection_ns, inside_latency_ns=latency_ns, inside_bytes_per_s=1e12,
        dispatch_bytes=1, combine_bytes=1,
    )  # fmt: skip
    sent = [
        Message(0, 0, DISPATCH, source, (source + turn) % devices, source, 1, 1, 0)
        for source, _, turn in product(range(devices), range(SELECTIONS // devices), range(1, devices))
    ]
    ports = Ports(devices, link)
    for message in sent:
        ports.send(message)
    carry(ports)
    return max(message.end_ns for message in sent)


@pytest.mark.parametrize("devices", [16, 32, 64, 128])
def test_what_ports_take_for_single_selections(devices):
    """What leaves the node goes through the port of the network card; 7 more wait where all places of a node begin."""
    leaving = SELECTIONS * (devices - GPUS_PER_NODE) // devices
    assert through_ports_ns(devices, 44_000, 145) == 44_000 + 145 * (leaving + GPUS_PER_NODE - 1)


def fitted_us(kind):
    """Return (latency, time of a selection) in us that give the two fitted times, and the times of all sizes.

    Two parameters for each kind, from two times.
    """
    on_port = {devices: SELECTIONS * (devices - 8) / devices + GPUS_PER_NODE - 1 for devices in PUBLISHED_US[kind]}
    (one, other), times = FITTED, PUBLISHED_US[kind]
    selection_us = (times[other] - times[one]) / (on_port[other] - on_port[one])
    latency_us = times[one] - selection_us * on_port[one]
    return latency_us, selection_us, {each: latency_us + selection_us * on_port[each] for each in times}


@pytest.mark.parametrize(
    ("kind", "latency_us", "card_gigabytes_per_s", "errors_percent"),
    [
        ("dispatch", 43.0, 51.1, {64: 0.3, 128: -4.8, 256: -3.4}),
        ("combine", 36.9, 47.1, {64: -0.6, 128: -10.2, 256: -5.2}),
    ],
)
def test_sizes_that_were_not_fitted_are_predicted(kind, latency_us, card_gigabytes_per_s, errors_percent):
    """DeepEP says that a card gives about 50 GB/s."""
    latency, selection, predicted = fitted_us(kind)
    assert latency == pytest.approx(latency_us, abs=0.05)
    assert BYTES[kind] / selection / 1e3 == pytest.approx(card_gigabytes_per_s, abs=0.05)
    errors = {devices: 100 * (predicted[devices] / PUBLISHED_US[kind][devices] - 1) for devices in HELD_OUT}
    assert errors == pytest.approx(errors_percent, abs=0.05)
    assert sum(map(abs, errors.values())) / len(errors) <= 6


def test_ports_with_the_fitted_numbers_take_the_fitted_times():
    """The fit's own numbers, run through ports: within the rounding of a selection's time to whole ns."""
    latency, selection, predicted = fitted_us("dispatch")
    for devices in FITTED:
        took = through_ports_ns(devices, round(latency * 1e3), selection * 1e3)
        assert took / 1e3 == pytest.approx(predicted[devices], abs=0.5)
