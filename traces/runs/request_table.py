"""Requests that were served, a row each, and what they amount to: times to the first token and per further token.

`simulate compose --requests` writes the table, CSV with a JSON beside it, and `analysis requests` reads it. All times
are ns from the beginning of the run of that rate and seed.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_steadiness import GROUPS, WARM_UP_SHARE, slowing
from moe_replay.traces.runs.served_sequences import Served
from moe_replay.traces.runs.time_statistics import REQUESTS, latency_statistics, token_statistics

COLUMNS = {
    "rate_per_s": str, "speed": str, "seed": str, "request": int, "source_sequence": int, "prompt_tokens": int,
    "output_tokens": int, "arrival_ns": int, "first_token_ns": int, "kv_bytes": int, "decode_pool_ns": int,
    "end_ns": int,
}  # fmt: skip
MAKES = "python -m simulate compose TRACE ... --requests TABLE.csv"


def token_times(rows: list[dict]) -> dict[str, float]:
    """Return the statistics of the requests of one run, all of them, from its beginning to its end.

    TTFT: from arrival to first token. TPOT: from first to last token over the tokens behind the first; requests of one
    token have none (NaN where none has).
    """
    arrival, first, end, tokens = (
        np.array([row[name] for row in rows]) for name in ("arrival_ns", "first_token_ns", "end_ns", "output_tokens")
    )
    seconds = float(end.max() - arrival.min()) / 1e9 or float("nan")
    return {
        "requests": len(rows),
        "requests_per_s": len(rows) / seconds,
        "output_tokens_per_s": float(tokens.sum()) / seconds,
        **token_statistics(first - arrival, end - first, tokens - 1),
        **latency_statistics(end - arrival, REQUESTS),
    }


def status_of_run(rows: list[dict]) -> str:
    """Return whether requests of one rate and seed were served as fast as they came: ok, unstable, or short.

    `unstable`: later ones waited longer for their first token, or took longer per token, than chance explains (as
    `slowing` tells it of a simulated run). `short`: there are too few to tell.
    """
    if int((1 - WARM_UP_SHARE) * len(rows)) < 2 * GROUPS:
        return "short"
    arrival, first, end, tokens = (
        np.array([row[name] for row in rows]) for name in ("arrival_ns", "first_token_ns", "end_ns", "output_tokens")
    )
    waits = Served(arrival, first, np.ones_like(tokens), tokens), Served(arrival, end, tokens, tokens)
    return "unstable" if any(slowing(each) > 1 for each in waits) else "ok"


def by_rate(rows: list[dict]) -> dict[str, tuple[list[dict[str, float]], str]]:
    """Return {rate: (statistics of each seed, status)}, in the order of the rows; the rate is "" where there is none.

    The status is that of the worst seed: the others had luck.
    """
    runs: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        runs.setdefault((str(row["rate_per_s"]), str(row["seed"])), []).append(row)
    found: dict[str, tuple[list[dict[str, float]], str]] = {}
    for (rate, _), of_run in runs.items():
        seeds, before = found.get(rate, ([], "ok"))
        status = status_of_run(of_run) if rate else "ok"  # all at once there is nothing to keep up with
        found[rate] = [*seeds, token_times(of_run)], min(before, status, key=("unstable", "short", "ok").index)
    return found


def speeds_by_rate(rows: list[dict]) -> dict[str, str]:
    """Return {rate: how many times as fast as recorded its requests came}; nothing where arrivals were drawn."""
    return {str(row["rate_per_s"]): str(row["speed"]) for row in rows if row["speed"] != ""}


def read_requests(path: Path) -> list[dict]:
    """Return the rows of a table of requests; InputError where it is none, with the place of the first fault."""
    try:
        with open(path, newline="") as opened:
            reader = csv.DictReader(opened)
            if reader.fieldnames != [*COLUMNS]:
                raise InputError(f"{path}: is no table of requests; allowed: what `{MAKES}` writes")
            rows = [typed(path, number, row) for number, row in enumerate(reader, 2)]
    except (OSError, UnicodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or "is no table of requests"
        raise InputError(f"{path}: {why}; allowed: what `{MAKES}` writes") from None
    if not rows:
        raise InputError(f"{path}: holds no rows")
    return rows


def typed(path: Path, line: int, row: dict) -> dict:
    """Return a row with numbers; InputError for another, and for times that run backwards."""
    for name, kind in COLUMNS.items():
        try:
            row[name] = kind(row[name])
        except (TypeError, ValueError):
            raise InputError(f"{path}: line {line}: {name} is {row[name]!r}, allowed: integers") from None
    if row["rate_per_s"]:
        try:
            positive = 0 < float(row["rate_per_s"]) < float("inf")
        except ValueError:
            positive = False
        if not positive:
            raise InputError(f"{path}: line {line}: rate_per_s is {row['rate_per_s']!r}, allowed: numbers > 0")
    if not 0 <= row["arrival_ns"] <= row["first_token_ns"] <= row["end_ns"] or row["output_tokens"] < 1:
        raise InputError(
            f"{path}: line {line}: arrival, first token and end are {row['arrival_ns']}, {row['first_token_ns']} and "
            f"{row['end_ns']} ns, output tokens {row['output_tokens']}; allowed: that order, at least one token"
        )
    return row


def system_of(path: Path) -> dict:
    """Return what the JSON beside a table says of what served; nothing where there is none."""
    try:
        told = json.loads(path.with_suffix(".json").read_text())
        return told["system"] if isinstance(told["system"], dict) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
