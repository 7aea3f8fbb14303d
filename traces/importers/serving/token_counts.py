"""How many tokens the sequences of a response have, of the prompt and generated; rows tell what nothing else does.

The last generated token is never routed, so that a sequence has prompt + generated - 1 - start rows. Counts come from
token ids, from each choice's own counts, from `usage`, which sums over choices and prompts, or from options.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import Options
from moe_replay.traces.selections import LARGEST_ROWS

PROMPT_IDS = ("prompt_token_ids", "prompt_ids", "input_ids")
GENERATED_IDS = ("token_ids", "output_token_ids", "completion_token_ids", "generation_token_ids", "output_ids")
GENERATED_PAIRS = ("output_token_logprobs",)  # one entry for each generated token
ONE_FEWER = "one row fewer than tokens"
WAYS = "token ids or counts in every choice (`return_token_ids`), --prompt-tokens or --generated-tokens"


@dataclass(frozen=True)
class Tokens:
    """The tokens of one sequence; None: not told. `start` is the token of its first row, `at_length` how it ended."""

    prompt: int | None = None
    generated: int | None = None
    start: int = 0
    rows: int = 0
    at_length: bool = False

    @property
    def total(self) -> int:
        """All tokens of the sequence."""
        return self.prompt + self.generated

    def fits(self) -> bool:
        """Whether the rows are those of the tokens; a prompt after which nothing was generated may have its last."""
        lacking = self.prompt + self.generated - 1 - self.start - self.rows
        return lacking == 0 or (lacking == -1 and self.generated == 0)


def count(place: str, key: str, value: object) -> int | None:
    """Return a count of tokens, None where there is none; InputError for anything else."""
    if value is None:
        return None
    if type(value) is not int:
        raise InputError(f"{place}: {key} is {value!r:.40}, allowed int")
    if not 0 <= value <= LARGEST_ROWS:
        raise InputError(f"{place}: {key} is {value}, allowed 0..{LARGEST_ROWS}")
    return value


def agreed(place: str, what: str, counts: Iterable[tuple[str, int | None]]) -> int | None:
    """Return the one number that all sources of a count say, None where none says any; InputError where they differ."""
    told = [(name, number) for name, number in counts if number is not None]
    for name, number in told[1:]:
        if number != told[0][1]:
            raise InputError(f"{place}: {what} are {told[0][1]} by {told[0][0]}, but {number} by {name}")
    return told[0][1] if told else None


def length(place: str, key: str, value: object) -> int | None:
    """Return how long a list is, None where there is none; InputError for anything else."""
    if value is not None and not isinstance(value, list):
        raise InputError(f"{place}: {key} is {value!r:.40}, allowed a list")
    return None if value is None else len(value)


def own_tokens(place: str, holders: Iterable[dict], options: Options, finish: object) -> Tokens:
    """Return what the objects that describe one sequence say of its tokens, and options where they say nothing."""
    prompts, generated = [], []
    for holder in holders:
        prompts += [(key, length(place, key, holder.get(key))) for key in PROMPT_IDS]
        prompts.append(("prompt_tokens", count(place, "prompt_tokens", holder.get("prompt_tokens"))))
        generated += [(key, length(place, key, holder.get(key))) for key in (*GENERATED_IDS, *GENERATED_PAIRS)]
        generated.append(("completion_tokens", count(place, "completion_tokens", holder.get("completion_tokens"))))
    prompts.append(("--prompt-tokens", options.prompt_tokens))
    generated.append(("--generated-tokens", options.generated_tokens))
    reason = finish.get("type") if isinstance(finish, dict) else finish
    return Tokens(
        prompt=agreed(place, "prompt tokens", prompts),
        generated=agreed(place, "generated tokens", generated),
        at_length=reason == "length",
    )


def settled(place: str, tokens: list[Tokens], prompt_sum: int | None, generated_sum: int | None) -> list[Tokens]:
    """Return the tokens of all sequences of a response, prompt and generated of each; the sums are those of its usage.

    InputError where rows and counts cannot fit, and where the counts leave open which tokens are the prompt's.
    """
    if any(each.prompt is None and each.generated is None for each in tokens):
        tokens = shared_out(place, tokens, prompt_sum, generated_sum)
    tokens = [by_rows(each) for each in tokens]
    for each in tokens:
        if not each.fits() or min(each.prompt, each.generated) < 0:
            raise InputError(f"{place}: {misfit([each], max(each.prompt, 0), max(each.generated, 0), 1)}")
    found = sum(each.generated for each in tokens)
    if generated_sum is not None and found != generated_sum:
        raise InputError(
            f"{place}: {found} generated tokens in {len(tokens)} sequences, but usage says {generated_sum}"
        )
    if prompt_sum is not None and prompts_of(tokens, prompt_sum) is None:
        found = [each.prompt for each in tokens]
        raise InputError(f"{place}: prompts of {found!s:.40} tokens, but usage says {prompt_sum}; allowed: their sum")
    return tokens


def by_rows(tokens: Tokens) -> Tokens:
    """Return the tokens with what is not told worked out from the rows."""
    whole = tokens.rows + 1 + tokens.start
    if tokens.prompt is None:
        return replace(tokens, prompt=whole - tokens.generated)
    return replace(tokens, generated=whole - tokens.prompt) if tokens.generated is None else tokens


def prompts_of(tokens: list[Tokens], prompt_sum: int) -> int | None:
    """Return how many prompts the sequences have, each as many sequences; None where no number gives the sum."""
    for prompts in range(1, len(tokens) + 1):
        if len(tokens) % prompts == 0:
            group_PC = np.array([each.prompt for each in tokens]).reshape(prompts, -1)
            if (group_PC == group_PC[:, :1]).all() and group_PC[:, 0].sum() == prompt_sum:
                return prompts
    return None


def shared_out(place: str, tokens: list[Tokens], prompt_sum: int | None, generated_sum: int | None) -> list[Tokens]:
    """Return the tokens by what usage sums: one prompt for all, or several, behind each as many generated tokens."""
    found, starts = sum(each.rows for each in tokens), sum(each.start for each in tokens)
    if len(tokens) == 1 and None not in (prompt_sum, generated_sum):
        return [replace(tokens[0], prompt=prompt_sum, generated=generated_sum)]
    if None in (prompt_sum, generated_sum):
        told = generated_sum if prompt_sum is None else prompt_sum
        if told is None or len(tokens) > 1:
            raise InputError(f"{place}: nothing says how many tokens are the prompt's; allowed: usage, {WAYS}")
        return [replace(tokens[0], prompt=prompt_sum, generated=generated_sum)]
    for prompts in range(1, len(tokens) + 1):
        each, rest = divmod(len(tokens), prompts)
        if rest == 0 and found == each * prompt_sum + generated_sum - len(tokens) - starts:
            break
    else:
        raise InputError(f"{place}: {misfit(tokens, prompt_sum, generated_sum, len(tokens))}")
    if prompts == 1:
        return [replace(each, prompt=prompt_sum) for each in tokens]
    even, rest = divmod(generated_sum, len(tokens))
    if rest or not all(each.at_length for each in tokens):
        found = f"usage sums {prompts} prompts, and nothing says how each one's tokens divide into prompt and generated"
        raise InputError(f"{place}: {found}; allowed: {WAYS}")
    return [replace(each, generated=even) for each in tokens]


def misfit(tokens: list[Tokens], prompt: int, generated: int, sequences: int) -> str:
    """Return the line about rows that do not fit tokens, and what would make them fit."""
    found, start = sum(each.rows for each in tokens), tokens[0].start
    allowed = sequences * (prompt - 1 - start) + generated
    stated = f", rows from token {start} on" if start else ""
    line = f"{found} rows, allowed {allowed} for {prompt} prompt and {generated} generated tokens{stated}: {ONE_FEWER}"
    lacking, rest = divmod(allowed - found, sequences)
    if rest == 0 and 0 < lacking <= prompt:
        return f"{line}; rows from token {lacking + start} on would fit: --start-token {lacking + start}"
    return line
