"""Logs of requests that others published: when each arrived, and how many tokens it had.

mooncake  JSON Lines: timestamp in ms, input_length, output_length
burstgpt  CSV: Timestamp in s, Request tokens, Response tokens
azure     CSV: TIMESTAMP as date and time, ContextTokens, GeneratedTokens
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_replay.traces.command_line.number_limits import LAST_NS
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.importers.tables.column_files import BAD, TableFile, read_table
from moe_replay.traces.importers.tables.column_values import is_text, numeric, whole, without_nulls


@dataclass(frozen=True)
class Form:
    """A log's columns, in lower case: time, prompt tokens, generated tokens; ns per unit of time, None for dates."""

    time: str
    prompt: str
    generated: str
    unit_ns: float | None


FORMS = {
    "mooncake": Form("timestamp", "input_length", "output_length", 1e6),
    "burstgpt": Form("timestamp", "request tokens", "response tokens", 1e9),
    "azure": Form("timestamp", "contexttokens", "generatedtokens", None),
}


@dataclass(frozen=True)
class Requests:
    """G requests in the order of their arrival: ns since the first one, tokens of prompt and answer."""

    arrival_ns_G: np.ndarray
    prompt_G: np.ndarray
    generated_G: np.ndarray
    sorted_here: bool = False
    first_ns: int = 0

    def first(self, count: int) -> Requests:
        """Return the first requests; InputError where there are fewer."""
        if count > len(self.arrival_ns_G):
            raise InputError(f"--requests {count}, allowed at most {len(self.arrival_ns_G)}, the requests of the log")
        return Requests(self.arrival_ns_G[:count], self.prompt_G[:count], self.generated_G[:count], self.sorted_here)


def read_requests(path: Path, kind: str) -> Requests:
    """Return the requests of a log; InputError for another form, or times that cannot be."""
    if kind not in FORMS:
        raise unknown_name("--from", kind, FORMS)
    form, table = FORMS[kind], read_table(path)
    missing = [name for name in (form.time, form.prompt, form.generated) if name not in table.columns]
    if missing:
        held = ", ".join(table.columns)
        raise InputError(f"{path}: no column {missing[0]!r} of {kind}; it holds {held!s:.120}")
    time_ns = times_ns(table, form)
    lengths = [whole(table, name) for name in (form.prompt, form.generated)]
    for name, length_G in zip((form.prompt, form.generated), lengths, strict=True):
        if (length_G < 0).any():
            row = int((length_G < 0).argmax())
            raise InputError(f"{path}: row {row + 1}: {name} is {length_G[row]}, allowed >= 0")
    order = np.argsort(time_ns, kind="stable")
    time_ns = time_ns[order]
    return Requests(
        time_ns - time_ns[0], lengths[0][order], lengths[1][order], bool((np.diff(order) < 0).any()), int(time_ns[0])
    )


def times_ns(table: TableFile, form: Form) -> np.ndarray:
    """Return when requests arrived, whole ns."""
    values, place = without_nulls(table, form.time), f"{table.path}: column {form.time}"
    if form.unit_ns is None:
        return dates_ns(place, values)
    times = numeric(place, values)
    wrong = ~(np.isfinite(times) & (times >= 0) & (times * form.unit_ns < LAST_NS))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{place}: row {row + 1} is {times[row]:g}, allowed finite times >= 0 within 292 years")
    return np.rint(times * form.unit_ns).astype(np.int64)


def dates_ns(place: str, values: pa.Array) -> np.ndarray:
    """Return dates and times as ns since 1970."""
    try:
        if is_text(values):
            values = pc.cast(values, pa.timestamp("ns"))
        if not pa.types.is_timestamp(values.type):
            raise InputError(f"{place}: holds {values.type}, allowed dates and times: 2023-11-16 18:15:46.68")
        return pc.cast(pc.cast(values, pa.timestamp("ns", values.type.tz)), pa.int64()).to_numpy(zero_copy_only=False)
    except BAD:
        raise InputError(f"{place}: no dates and times, allowed 2023-11-16 18:15:46.68, years 1678 to 2261") from None
