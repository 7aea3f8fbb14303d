"""Executes exchanges of every way among every number of devices, and fits a link to those that are for calibration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from moe_replay.collect.ports.device_group import DeviceGroup
from moe_replay.collect.ports.exchange_ways import Way
from moe_replay.collect.ports.link_fit import fit_link
from moe_replay.collect.ports.patterns import patterns_of
from moe_replay.traces.runs.port_log import (
    CALIBRATION,
    CHECK,
    EXECUTED_COLUMNS,
    Exchange,
    exchanges_in,
    port_table,
)


@dataclass(frozen=True)
class PortPlan:
    """What is executed: every pattern `repetitions` times, each time in a new order drawn from `seed`."""

    ways: tuple[Way, ...]
    devices: tuple[int, ...]
    repetitions: int = 5
    seed: int = 0

    def exchanges(self, way: Way, devices: int) -> list[Exchange]:
        """Return the exchanges of a way among so many devices, those for calibration first."""
        return [
            Exchange(way.name, purpose, name, bytes_DD)
            for purpose in (CALIBRATION, CHECK)
            for name, bytes_DD in patterns_of(purpose, devices, way.message_bytes, self.seed).items()
        ]

    @property
    def count(self) -> int:
        """How many exchanges are executed, those that are not counted included."""
        each = sum(len(self.exchanges(self.ways[0], devices)) for devices in self.devices)
        return len(self.ways) * (each * self.repetitions + len(self.devices))


def measure_ports(plan: PortPlan, done: Callable[[str], object] = lambda said: None) -> tuple[pa.Table, dict]:
    """Return the messages of all exchanges, and what a header says: ways, links, the machine's load before and after.

    InputError where a device ends or falls silent.
    """
    rows: list[tuple] = []
    about = {way.name: way.about() for way in plan.ways}
    load_before = os.getloadavg()[0]
    for way in plan.ways:
        for devices in plan.devices:
            with DeviceGroup(way, devices) as group:
                about[way.name] |= group.about
                rows += measured(plan, group, done)
    table = port_table(rows, EXECUTED_COLUMNS)
    load = {"load_average_before": round(load_before, 2), "load_average_after": round(os.getloadavg()[0], 2)}
    return table, {"ways": about, "links": fitted_links(table), **load, "niceness": os.nice(0)}


def measured(plan: PortPlan, group: DeviceGroup, done: Callable[[str], object]) -> Iterator[tuple]:
    """Yield the rows of one group of devices; the exchange that comes first, to wake it, is not counted."""
    exchanges, draws = plan.exchanges(group.way, group.devices), np.random.default_rng((plan.seed, group.devices))
    said = f"{group.way.name}, {group.devices} devices"
    group.exchange(exchanges[-1].bytes_DD)
    done(said)
    for repetition in range(plan.repetitions):
        for at in draws.permutation(len(exchanges)).tolist():
            for message in group.exchange(exchanges[at].bytes_DD):
                yield (*exchanges[at].keys, repetition, *message)
            done(said)


def fitted_links(table: pa.Table) -> list[dict]:
    """Return, for every way, the link that fits its calibration exchanges among all numbers of devices."""
    links, took_ns = [], medians(table)
    of_way: dict[str, list[Exchange]] = {}
    for exchange in exchanges_in(table):
        if exchange.purpose == CALIBRATION:
            of_way.setdefault(exchange.way, []).append(exchange)
    for way, exchanges in of_way.items():
        fit = fit_link([each.bytes_DD for each in exchanges], [took_ns[each.keys] for each in exchanges])
        links.append({"way": way, "exchanges": len(exchanges), **fit})
    return links


def medians(table: pa.Table) -> dict[tuple, float]:
    """Return how long every exchange took until its last message was there, in ns: the median over repetitions."""
    spans: dict[tuple, dict[int, int]] = {}
    names: Sequence[str] = ("way", "devices", "purpose", "pattern", "repetition", "end_ns")
    for *keys, repetition, end_ns in zip(*(table[name].to_pylist() for name in names), strict=True):
        of_exchange = spans.setdefault(tuple(keys), {})
        of_exchange[repetition] = max(of_exchange.get(repetition, 0), end_ns)
    return {keys: float(np.median(list(each.values()))) for keys, each in spans.items()}
