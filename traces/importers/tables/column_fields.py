"""Which column of a table is which field: by the names that people use, or as `--column FIELD=NAME` says."""

from __future__ import annotations

import re

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.tables.column_files import TableFile

# Usual names in lower case, `-`, blanks and dots as `_`. Two of one field in a file are refused: the user says which.
NAMES = {
    "sequence": (
        "sequence", "sequence_id", "seq", "seq_id", "req_id", "req", "request", "request_id", "rid", "sample",
        "sample_id", "conversation", "conversation_id", "prompt_id", "turn", "uid",
    ),
    "token": (
        "token", "token_idx", "token_index", "token_pos", "token_position", "token_no", "tok", "tok_idx", "position",
        "pos",
    ),
    "layer": ("layer", "layer_id", "layer_idx", "layer_index", "layer_number", "layer_name", "moe_layer", "il"),
    "expert": ("expert", "expert_id", "expert_idx", "expert_index"),
    "experts": (
        "experts", "expert_ids", "topk_ids", "topk_idx", "topk_indices", "topk_experts", "topk", "top_k_ids",
        "selected_experts", "routed_experts", "experts_selected", "indices",
    ),
    "slot": ("slot", "rank", "topk_rank", "topk_slot", "k_idx", "choice"),
    "score": ("score", "weight", "prob", "probability", "gate", "gate_weight", "router_weight", "topk_weight"),
    "scores": (
        "scores", "weights", "probs", "topk_weights", "topk_scores", "topk_probs", "expert_weights",
        "routing_weights", "gate_weights", "router_probs",
    ),
    "phase": ("phase", "stage"),
    "step": ("step", "forward_pass_id", "forward_pass", "iteration", "iter", "step_idx"),
    "token_id": ("token_id", "input_id", "tok_id"),
    "prompt_len": ("prompt_len", "prompt_length", "prompt_tokens", "num_prompt_tokens", "n_prompt"),
    "device": ("device", "device_rank", "dp_rank", "ep_rank", "gpu"),
    "count": (
        "count", "counts", "tokens", "load", "n_tokens", "num_tokens", "selections", "activations", "hits",
    ),
}  # fmt: skip
SLOTS = re.compile(r"(?:experts?|expert_id|topk|top|sel|slot|id|e)_?(\d{1,4})")
SCORES = re.compile(r"(?:scores?|weights?|probs?|gate|w|p)_?(\d{1,4})")
CELLS = re.compile(r"(?:layer|l|blk)_?(\d{1,5})_(?:expert|topk|slot|sel|k|e)_?(\d{1,4})")
LAYERS = re.compile(r"(?:layer|l|blk)_?(\d{1,5})")


def normal(name: str) -> str:
    """Return a column's name as it is compared."""
    return re.sub(r"[\s.-]+", "_", name.strip().lower())


def fields_of(table: TableFile, stated: tuple[str, ...], wanted: tuple[str, ...]) -> dict[str, str]:
    """Return {field: column} of the wanted fields that a table has; InputError where two columns could be one.

    `stated` are entries `FIELD=NAME`, or `FIELD=` to leave a field out.
    """
    found, held = {}, ", ".join(table.columns)
    chosen = stated_fields(stated)
    for field in wanted:
        if field in chosen:
            if chosen[field] and chosen[field] not in table.columns:
                raise InputError(f"{table.path}: no column {chosen[field]!r}; it holds {held!s:.120}")
            if chosen[field]:
                found[field] = chosen[field]
            continue
        there = [name for name in table.columns if normal(name) in NAMES[field] and name not in chosen.values()]
        if len(there) > 1:
            both = " and ".join(there[:2])
            raise InputError(f"{table.path}: columns {both} may both be {field}; allowed: --column {field}=NAME")
        if there:
            found[field] = there[0]
    return found


def stated_fields(stated: tuple[str, ...]) -> dict[str, str]:
    """Return {field: column} of `--column FIELD=NAME`; InputError for anything else, or a field twice."""
    chosen = {}
    for each in stated:
        field, equals, name = each.partition("=")
        if not equals or field not in NAMES or field in chosen:
            known = ", ".join(NAMES)
            raise InputError(f"--column is {each!r}, allowed FIELD=NAME, each field once, with FIELD one of {known}")
        chosen[field] = name.strip().lower()
    return chosen


def numbered(table: TableFile, pattern: re.Pattern) -> dict[tuple[int, ...], str]:
    """Return {numbers in the name: column} of the columns that a pattern matches, ascending."""
    found = {}
    for name in table.columns:
        if match := pattern.fullmatch(normal(name)):
            at = tuple(int(each) for each in match.groups())
            if at in found:
                raise InputError(f"{table.path}: columns {found[at]} and {name} have the same numbers, allowed: one")
            found[at] = name
    return dict(sorted(found.items()))


def check_running(table: TableFile, numbers: list[int], what: str) -> None:
    """Refuse numbers of columns with a gap: a column is missing."""
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        found = f"{what} {', '.join(map(str, numbers))!s:.60}"
        raise InputError(f"{table.path}: columns of {found}, allowed numbers from 0 or 1 on without a gap")
