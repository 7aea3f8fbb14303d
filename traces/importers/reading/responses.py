"""Responses of serving engines that carry routed experts: JSON, or JSON Lines with one response per line."""

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import KEEP, Source, layer_numbers
from moe_replay.traces.importers.reading.token_rows import (
    ONE_AFTER_ANOTHER,
    Sequences,
    check_array,
    check_copies,
    check_ids,
    check_no_shared,
    without_dense,
    without_shared,
)
from moe_replay.traces.importers.reading.unrouted import check_whole, with_unrouted
from moe_replay.traces.selections import LARGEST_ROWS, Trace

# An engine's module turns a response into what each of its sequences holds: (place, rows [rows, layers, k]); None in
# the place of rows where the response has none and --unrouted keep leaves it out.
Rows = list[tuple[str, np.ndarray | None]]


@dataclass(frozen=True)
class Usage:
    """The tokens that a response says it has: of the prompt, and generated in all its sequences together."""

    prompt: int
    generated: int


def responses(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield (place, response) of every response in a file; InputError for what is no JSON object."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text, allowed JSON or JSON Lines") from None
    lines = path.suffix == ".jsonl"
    parts = [(f"{path}: line {at}", line) for at, line in enumerate(text.splitlines(), 1) if line.strip()]
    for place, part in parts if lines else [(str(path), text)]:
        try:
            content = json.loads(part)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: not whole JSON ({str(error)[:60]})") from None
        several = isinstance(content, list)
        for at, each in enumerate(content) if several else [(0, content)]:
            where = f"{place}: response {at}" if several else place
            if not isinstance(each, dict):
                raise InputError(f"{where}: is {type(each).__name__}, allowed an object, one response")
            yield where, each


def entry(place: str, content: object, key: str, kind: type) -> object:
    """Return content[key]; InputError if it is missing or of another type."""
    if not isinstance(content, dict) or key not in content:
        raise InputError(f"{place}: {key} is missing")
    value = content[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{place}: {key} is {value!r:.40}, allowed {kind.__name__}")
    return value


def usage(place: str, content: dict) -> Usage:
    """Return the counts of tokens; InputError for what cannot be: without them a missing row would not be seen."""
    prompt, generated = (entry(place, content, key, int) for key in ("prompt_tokens", "completion_tokens"))
    for key, value in (("prompt_tokens", prompt), ("completion_tokens", generated)):
        if not 1 <= value <= LARGEST_ROWS:
            raise InputError(f"{place}: {key} is {value}, allowed 1..{LARGEST_ROWS}")
    return Usage(prompt, generated)


def routed(place: str, content: object, source: Source) -> object | None:
    """Return content["routed_experts"]; InputError where it is null, unless such responses are left out (None)."""
    value = entry(place, content, "routed_experts", object)
    if value is None and source.options.unrouted != KEEP:
        found = "routed_experts is null, as of a request that was aborted or preempted"
        raise InputError(f"{place}: {found}; allowed: --unrouted {KEEP}, which leaves such responses out")
    return value


def decoded(place: str, text: object) -> bytes:
    """Return the bytes of a base64 text; InputError for anything else."""
    if not isinstance(text, str):
        raise InputError(f"{place}: routed_experts is {text!r:.40}, allowed text in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{place}: routed_experts is not base64 ({error})") from None


def check_count(place: str, rows: Rows, counted: Usage, start: int) -> None:
    """Refuse sequences whose rows do not fit their tokens: the last generated token has none."""
    lacking = [at for at, experts_TLK in rows if experts_TLK is None]
    if lacking:
        raise InputError(f"{lacking[0]}: routed_experts is null beside choices that have some, allowed: in all or none")
    found = sum(len(experts) for _, experts in rows)
    allowed = len(rows) * (counted.prompt - 1 - start) + counted.generated
    if found != allowed:
        tokens = f"{counted.prompt} prompt and {counted.generated} generated tokens"
        stated = f", rows from token {start} on" if start else ""
        raise InputError(f"{place}: {found} rows, allowed {allowed} for {tokens}{stated}: one row fewer than tokens")


def read_responses(source: Source, rows_of: Callable[[str, dict, Source], tuple[Usage, Rows]]) -> Trace:
    """Return the trace of all responses in all files, in their order; `rows_of` knows the engine."""
    start = source.options.start_token or 0
    pieces, prefill, layers, without = [], [], None, []
    for path in source.paths:
        for place, response in responses(path):
            counted, rows = rows_of(place, response, source)
            if all(experts_TLK is None for _, experts_TLK in rows):
                without += [at for at, _ in rows]
                continue
            check_count(place, rows, counted, start)
            for at, experts_TLK in rows:
                check_array(at, experts_TLK)
                experts_TLK = without_shared(at, experts_TLK, source.options.experts, source.options.shared_slots)
                check_ids(at, experts_TLK, source.options.experts, lowest=-1)
                if layers not in (None, experts_TLK.shape[1:]):
                    raise InputError(f"{at}: rows are [layers, k] {experts_TLK.shape[1:]}, allowed {layers} as before")
                layers = experts_TLK.shape[1:]
                pieces.append(experts_TLK.astype(np.int16))
                prefill.append(min(max(counted.prompt - start, 0), len(experts_TLK)))
    if not pieces:
        raise InputError(f"{source.place}: no responses with routed experts, allowed at least one")
    left_out = {"left_out": [f"{at}, which has no routed experts" for at in without]} if without else {}
    return assembled(source, pieces, np.array(prefill), start, left_out)


def assembled(source: Source, pieces: list[np.ndarray], prefill_S: np.ndarray, start: int, left_out: dict) -> Trace:
    """Return the trace of sequences of rows, checked for the traps that need all of them."""
    experts_TLK = np.concatenate(pieces)
    layer_ids = layer_numbers(source.options.layers, experts_TLK.shape[1])
    experts_TLK = without_dense(source.place, experts_TLK, layer_ids)
    unrouted = source.options.unrouted
    experts_TLK = with_unrouted(source.place, experts_TLK, source.options.experts, unrouted, layer_ids)
    check_whole(source.place, experts_TLK, unrouted, layer_ids)
    check_no_shared(source.place, experts_TLK, source.options.experts, source.options.shared_slots)
    check_copies(source.place, experts_TLK, layer_ids, source.options.experts)
    length_S = np.array([len(piece) for piece in pieces])
    sequences = Sequences(length_S, prefill_S, np.full_like(length_S, start))
    model = source.model(experts_TLK.shape[2], layer_ids)
    fields = sequences.token_fields() | {"prompt_len_S": narrowed("prompt_len", prefill_S + start, np.int32)}
    notes = ONE_AFTER_ANOTHER | {"rows": "the last generated token of a sequence is never routed and has no row"}
    return source.trace(model, notes | left_out, experts_TLK=np.ascontiguousarray(experts_TLK), **fields)
