"""Responses of serving engines that carry routed experts: JSON, or JSON Lines with one response per line."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import ABORTED, Source
from moe_replay.traces.importers.reading.token_rows import check_array
from moe_replay.traces.importers.serving.response_trace import Piece, trace_of
from moe_replay.traces.importers.serving.routed_arrays import KEY, Routed, routed_array
from moe_replay.traces.importers.serving.token_counts import WAYS, Tokens, count, own_tokens, settled
from moe_replay.traces.selections import Trace

PROMPT_KEY = f"prompt_{KEY}"


@dataclass(frozen=True)
class Answer:
    """One sequence of a response: what holds its routed experts, and the objects that tell of its tokens.

    `prompt` holds the prompt's rows where these are apart from the generated tokens'.
    """

    place: str
    holder: dict
    tells: tuple[dict, ...] = ()
    finish: object = None
    prompt: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """The sequences of one response, its `usage` (None: none), and the type of its engine's raw bytes (None: none)."""

    answers: tuple[Answer, ...]
    usage: dict | None = None
    usual: str | None = None


def responses(path: Path) -> Iterator[tuple[str, dict]]:
    """Yield (place, response) of every response in a file; InputError for what is no JSON object."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
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
    return of_type(place, key, content[key], kind)


def of_type(place: str, key: str, value: object, kind: type) -> object:
    """Return a value; InputError if it is of another type."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{place}: {key} is {value!r:.40}, allowed {kind.__name__}")
    return value


def usage_of(place: str, response: dict) -> dict | None:
    """Return a response's `usage`, None where it has none; InputError where it is no object."""
    found = response.get("usage")
    return None if found is None else of_type(place, "usage", found, dict)


def aborted(answer: Answer, source: Source) -> bool:
    """Return whether a sequence is to be left out; InputError for one that was aborted and is not."""
    reason = answer.finish.get("type") if isinstance(answer.finish, dict) else answer.finish
    null = entry(answer.place, answer.holder, KEY, object) is None
    if not null and reason not in ("abort", "aborted"):
        return False
    if ABORTED not in source.options.leave_out:
        found = (
            f"{KEY} is null, as of a request that was aborted or preempted" if null else f"finish_reason is {reason}"
        )
        raise InputError(f"{answer.place}: {found}; allowed: --leave-out {ABORTED}")
    return True


def pieces_of(place: str, response: Response, source: Source) -> Iterator[Piece]:
    """Yield the sequences of a response, without those that are left out; InputError where rows do not fit tokens."""
    kept = [answer for answer in response.answers if not aborted(answer, source)]
    routed = [rows_of(answer, source, response.usual) for answer in kept]
    told = [
        with_rows(own_tokens(answer.place, answer.tells, source.options, answer.finish), each, source)
        for answer, each in zip(kept, routed, strict=True)
    ]
    where = f"{place}: usage"
    sums = [count(where, key, (response.usage or {}).get(key)) for key in ("prompt_tokens", "completion_tokens")]
    if len(kept) < len(response.answers):
        if len(response.answers) > 1 and any(each.prompt is None and each.generated is None for each in told):
            raise InputError(f"{where}: sums over choices that are left out; allowed: {WAYS}")
        sums = [None, None]
    check_types(kept, routed, told, sums)
    for answer, each, tokens in zip(kept, routed, settled(place, told, *sums) if told else [], strict=True):
        stated = each.start is not None
        yield Piece(answer.place, place, each.experts_TLK, tokens, stated)


def rows_of(answer: Answer, source: Source, usual: str | None) -> Routed:
    """Return all rows of a sequence: those of the prompt first, where these are apart."""
    found = routed_array(answer.place, answer.holder, source.options, usual)
    check_array(answer.place, found.experts_TLK)
    if answer.prompt.get(PROMPT_KEY) is None:
        return found
    before = routed_array(answer.place, answer.prompt, source.options, usual, PROMPT_KEY)
    check_array(answer.place, before.experts_TLK)
    if before.experts_TLK.shape[1:] != found.experts_TLK.shape[1:]:
        shapes = f"{before.experts_TLK.shape[1:]} and {found.experts_TLK.shape[1:]}"
        raise InputError(f"{answer.place}: rows of prompt and choice are [layers, k] {shapes}, allowed the same")
    if found.start is not None:
        raise InputError(f"{answer.place}: {KEY} has a start beside {PROMPT_KEY}, allowed one of them")
    rows_TLK = np.concatenate([before.experts_TLK, found.experts_TLK])
    return Routed(rows_TLK, before.start, before.raw_bytes + found.raw_bytes)


def with_rows(tokens: Tokens, routed: Routed, source: Source) -> Tokens:
    """Return the tokens with their number of rows and the first one's token, which --start-token may say."""
    asked, stated = source.options.start_token, routed.start
    if None not in (asked, stated) and asked != stated:
        raise InputError(f"{source.place}: rows start at token {stated}, but --start-token is {asked}")
    start = asked or 0 if stated is None else stated
    return Tokens(tokens.prompt, tokens.generated, start, len(routed.experts_TLK), tokens.at_length)


def check_types(kept: list[Answer], routed: list[Routed], told: list[Tokens], sums: list[int | None]) -> None:
    """Refuse raw bytes of a type that nothing says, where no counts of tokens would show that it is another."""
    for answer, each, tokens in zip(kept, routed, told, strict=True):
        sure = None not in (tokens.prompt, tokens.generated) or None not in sums
        if each.raw_bytes and not sure:
            found = f"nothing says the type of {KEY}'s {each.raw_bytes} bytes, nor how many rows they are"
            raise InputError(f"{answer.place}: {found}; allowed: {KEY}_dtype beside it, or --dtype")
        by_type = {size: each.raw_bytes // size for size in (1, 2, 4, 8)}
        if each.raw_bytes and None not in (tokens.prompt, tokens.generated):
            check_width(answer.place, each, tokens, by_type)


def check_width(place: str, routed: Routed, tokens: Tokens, numbers: dict[int, int]) -> None:
    """Refuse raw bytes that give the right number of rows as another type than the usual one."""
    rows, layers, k = routed.experts_TLK.shape
    if Tokens(tokens.prompt, tokens.generated, tokens.start, rows).fits():
        return
    for size, held in numbers.items():
        found, rest = divmod(held, layers * k)
        if rest == 0 and Tokens(tokens.prompt, tokens.generated, tokens.start, found).fits():
            said = f"{KEY} has {rows} rows as int32, but {found} as the tokens ask for if numbers have {size} bytes"
            raise InputError(f"{place}: {said}; allowed: {KEY}_dtype beside it, or --dtype uint{8 * size}")


def read_responses(source: Source, response_of: Callable[[str, dict], Response]) -> Trace:
    """Return the trace of all responses in all files, in their order; `response_of` knows the engine."""
    pieces, sequences = [], 0
    for path in source.paths:
        for place, content in responses(path):
            response = response_of(place, content)
            sequences += len(response.answers)
            pieces += pieces_of(place, response, source)
    if not pieces:
        raise InputError(f"{source.place}: no responses with routed experts, allowed at least one")
    return trace_of(source, pieces, sequences)
