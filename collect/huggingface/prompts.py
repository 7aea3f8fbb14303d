"""Prompts out of a JSON Lines file: text, chat messages, or token ids."""

import json
from dataclasses import dataclass
from pathlib import Path

from moe_replay.traces.errors import InputError

CONTENTS = ("text", "prompt", "messages", "token_ids")
BESIDE = ("domain", "label")
LARGEST_LABEL = 2**31 - 1  # labels are int32


@dataclass(frozen=True)
class NoTokenizer:
    """Stands for a tokenizer that could not be loaded, and says why."""

    reason: str


@dataclass(frozen=True)
class Prompt:
    """One line's prompt as token ids; its domain ("" where none was given) and label (-1 where none)."""

    token_ids: tuple[int, ...]
    domain: str = ""
    label: int = -1


def read_prompts(path: Path, tokenizer: object, limit: int | None, longest: int | None) -> list[Prompt]:
    """Return the prompts of a JSON Lines file, the first `limit` of them, each cut to its first `longest` tokens.

    A line is an object with one of CONTENTS and, where wanted, a domain (text) and a label (a whole number >= 0).
    A NoTokenizer allows token ids only. InputError names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a string may hold what else splitlines() cuts at
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error!s:.80})") from None
    prompts = []
    for number, line in enumerate(lines, 1):
        if line.strip() and (limit is None or len(prompts) < limit):
            try:
                prompts.append(parsed(line, tokenizer, longest))
            except InputError as error:
                raise InputError(f"{path}: line {number}: {error}") from None
    if not prompts:
        raise InputError(f"{path}: holds no prompt, allowed: a JSON object per line with one of {', '.join(CONTENTS)}")
    return prompts


def parsed(line: str, tokenizer: object, longest: int | None) -> Prompt:
    """Return the prompt in a line."""
    try:
        content = json.loads(line)
        json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # also halves of a surrogate pair, and endless numbers
        raise InputError(f"is no JSON ({error!s:.80})") from None
    given = [key for key in CONTENTS if isinstance(content, dict) and key in content]
    if len(given) != 1:
        raise InputError(f"has {' and '.join(given) or 'none'} of {', '.join(CONTENTS)}, allowed exactly one")
    for key in content:
        if key not in (*CONTENTS, *BESIDE):
            raise InputError(f"unknown key {key!r}; known: {', '.join((*CONTENTS, *BESIDE))}")
    domain, label = content.get("domain", ""), content.get("label", -1)
    if not isinstance(domain, str):
        raise InputError(f"domain is {domain!r:.40}, allowed text")
    if not whole(label) or not -1 <= label <= LARGEST_LABEL:
        raise InputError(f"label is {label!r:.40}, allowed a whole number 0..{LARGEST_LABEL}")
    token_ids = tokens(given[0], content[given[0]], tokenizer)
    if not token_ids:
        raise InputError(f"{given[0]} holds no tokens, allowed one or more")
    return Prompt(tuple(token_ids[:longest]), domain, label)


def tokens(kind: str, value: object, tokenizer: object) -> list[int]:
    """Return the token ids of one of CONTENTS."""
    if kind == "token_ids":
        if not isinstance(value, list) or not all(whole(each) and each >= 0 for each in value):
            raise InputError("token_ids holds something else than whole numbers >= 0")
        return value
    if isinstance(tokenizer, NoTokenizer):
        raise InputError(f"{kind}: the model has no tokenizer ({tokenizer.reason}); allowed without one: token_ids")
    if kind == "messages":
        try:
            return list(tokenizer.apply_chat_template(value, add_generation_prompt=True, return_dict=True)["input_ids"])
        except Exception as error:  # a template raises what it likes
            raise InputError(f"messages do not fit the model's chat template ({error!s:.80})") from None
    if not isinstance(value, str):
        raise InputError(f"{kind} is {value!r:.40}, allowed text")
    try:
        return list(tokenizer(value)["input_ids"])
    except Exception as error:  # a tokenizer raises what it likes
        raise InputError(f"{kind} does not fit the model's tokenizer ({error!s:.80})") from None


def whole(value: object) -> bool:
    """Whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
