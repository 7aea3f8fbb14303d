"""Quantities as people write them, and former names of options."""

import math

import pytest
import typer

from moe_replay.traces.command_line.command import numbers
from moe_replay.traces.command_line.former_names import present_words
from moe_replay.traces.command_line.units import (
    BANDWIDTH,
    COUNT,
    PERCENT,
    SECONDS,
    SHARE,
    SIZE,
    duration_in,
    time_in,
)
from moe_replay.traces.errors import InputError


@pytest.mark.parametrize(
    ("quantity", "text", "value"),
    [
        (SIZE, "90MB", 90_000_000), (SIZE, "1.5GiB", 3 * 2**29), (SIZE, "30e6", 30_000_000), (SIZE, "0.5 kB", 500),
        (SIZE, "7", 7), (SIZE, "2KB", 2000), (SIZE, "2KiB", 2048), (SIZE, "3TB", 3 * 10**12), (SIZE, "0", 0),
        (BANDWIDTH, "0.25", 0.25e9), (BANDWIDTH, "25GB/s", 25e9), (BANDWIDTH, "16.3GB/s", 16_300_000_000.0),
        (BANDWIDTH, "900MiB/s", 900 * 2.0**20), (BANDWIDTH, "100Gbit/s", 12.5e9), (BANDWIDTH, "inf", math.inf),
        (time_in("us"), "100", 100_000), (time_in("us"), "200us", 200_000), (time_in("us"), "1.5ms", 1_500_000),
        (time_in("us"), "2min", 120 * 10**9), (time_in("us"), "0.1ns", 0), (time_in("ms"), "4.5", 4_500_000),
        (time_in("ns"), "3µs", 3000), (SECONDS, "140", 140.0), (SECONDS, "2min", 120.0), (SECONDS, "90ms", 0.09),
        (duration_in("min"), "90s", 1.5), (duration_in("ns"), "0.5", 0.5),
        (SHARE, "0.4", 0.4), (SHARE, "40%", 0.4), (SHARE, "55%", 0.55), (SHARE, "100 %", 1.0),
        (PERCENT, "45%", 45.0), (PERCENT, "45", 45.0), (COUNT, "1e6", 1_000_000), (COUNT, "12", 12),
        (COUNT, "1.5e3", 1500), (COUNT, "-3", -3),
    ],
)  # fmt: skip
def test_values_are_exact_and_rounded_once(quantity, text, value):
    found = quantity.value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("quantity", [SIZE, BANDWIDTH, time_in("us"), SHARE, PERCENT, COUNT, SECONDS])
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "MB",
        "1,5",
        "nan",
        "0x10",
        "1_0",
        "１",
        "90 M B",
        "90mb",
        "5V",
        "1e",
        "--",
        "9" * 2000,
        "1e999999999",
    ],
)
def test_what_is_no_quantity_is_refused_at_once(quantity, text):
    with pytest.raises(ValueError, match="allowed: "):
        quantity.value(text)


@pytest.mark.parametrize(
    ("quantity", "text", "said"),
    [
        (SIZE, "0.5B", "0.5B is no whole size; allowed: sizes such as 90MB"),
        (SIZE, "25GB/s", "'25GB/s' is no size; allowed: sizes such as 90MB"),
        (SIZE, "3ms", "'3ms' is no size"),
        (COUNT, "1.5", "1.5 is no whole number; allowed: numbers such as 1000 or 1e3"),
        (SHARE, "inf", "'inf' is no share; allowed: shares such as 0.4 or 40%"),
        (BANDWIDTH, "90MB", "'90MB' is no bandwidth; allowed: bandwidths such as 25GB/s"),
    ],
)
def test_what_is_wrong_is_said(quantity, text, said):
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        quantity.value(text)


def test_limits_hold_in_the_base_unit():
    assert SHARE.parsed("100%", 0, 1) == 1.0
    with pytest.raises(ValueError, match=r"101% is not allowed; allowed: shares such as 0.4 or 40%, >= 0 and <= 1"):
        SHARE.parsed("101%", 0, 1)
    with pytest.raises(typer.BadParameter, match="-1us is not allowed"):
        time_in("us").parser(0, None)("-1us")
    assert time_in("us").parser(0, None)(7) == 7


def test_lists_name_their_option():
    assert SIZE.listed("24MB,30e6", "--memory", 1) == [24_000_000, 30_000_000]
    with pytest.raises(InputError, match=r"--memory: 'x' is no size; .*, with commas"):
        SIZE.listed("24MB,x", "--memory", 1)
    assert numbers("1e1,3", "--slots") == [10, 3]
    with pytest.raises(InputError, match=r"--slots: '1.5' is no int"):
        numbers("1.5", "--slots")


def test_a_former_name_may_mean_something_of_its_own_elsewhere():
    words = ["python", "-m", "simulate", "order", "x.json", "--policy", "best"]
    assert present_words(words) == words
    assert present_words(words[2:]) == words[2:]
    assert "--cache" in present_words(["python", "-m", "simulate", "misses", "order", "--policy", "lru"])


def test_former_names_mean_what_they_meant():
    words = ["run", "--timeout-us", "500", "--policy", "lru,lfu", "--latency-ms=4,5", "--out", "--", "--policy"]
    assert present_words(words) == [
        "run", "--timeout", "500us", "--cache", "lru,lfu", "--pass-latency=4ms,5ms", "--out", "--", "--policy",
    ]  # fmt: skip
    assert present_words(["--reset-per-sequence", "--out", "x"]) == ["--emptied", "sequence", "--out", "x"]
    assert present_words(["collect", "memory", "--k", "memory"]) == ["collect", "dispatch-memory", "--k", "memory"]
    assert present_words(["simulate", "memory", "toy"]) == ["simulate", "memory", "toy"]
    assert present_words(["--memory-bytes", "12e6,18e6", "--most-gib", "40"]) == [
        "--memory", "12e6B,18e6B", "--most-memory", "40GiB",
    ]  # fmt: skip
