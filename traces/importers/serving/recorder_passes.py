"""One pass of SGLang's recorder in its per_token mode: which tokens it had, of which requests, in which phase.

Modes of a pass (`forward_mode`) have numbers that stayed the same up to `verify`; later ones differ between versions.
"""

from dataclasses import dataclass

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.torch_file import pass_and_rank, whole_numbers
from moe_replay.traces.selections import LARGEST_ROWS

EXTEND, DECODE, MIXED, IDLE, VERIFY = MODES = ("extend", "decode", "mixed", "idle", "verify")  # numbers from 1
NAMED = ", ".join(f"{number} ({name})" for number, name in enumerate(MODES, 1))


@dataclass(frozen=True)
class Pass:
    """The tokens of one pass, with physical ids [tokens, layers, columns].

    `owner_T` numbers the request of each token within the pass; `rid_S` are the requests' names (None: not recorded).
    `stale` is how many rows behind the tokens hold ids.
    """

    number: int
    rank: int
    token_id_T: np.ndarray
    position_T: np.ndarray
    phase_T: np.ndarray
    owner_T: np.ndarray
    rid_S: tuple[str, ...] | None
    physical_TLK: np.ndarray
    stale: int = 0

    @property
    def place(self) -> str:
        """Pass and rank in words."""
        return f"pass {self.number} of rank {self.rank}"


def read_pass(place: str, record: dict, layers: int) -> Pass:
    """Return a record's pass; InputError if its parts do not fit each other."""
    number, rank = pass_and_rank(place, record)
    token_id_T, position_T = (whole_numbers(place, record, key, 1) for key in ("input_ids", "positions"))
    mode, tokens = mode_of(place, record), len(token_id_T)
    if len(position_T) != tokens:
        raise InputError(f"{place}: {tokens} input_ids, {len(position_T)} positions, allowed equally many")
    for key, values in (("input_ids", token_id_T), ("positions", position_T)):
        if tokens and (values.min() < 0 or values.max() > LARGEST_ROWS):
            raise InputError(f"{place}: {key} has {values.min()}..{values.max()}, allowed 0..{LARGEST_ROWS}")
    physical_TLK, stale = ids_of(place, record, 0 if mode == IDLE else tokens, layers)
    if mode == IDLE or not tokens:
        none_T = np.zeros(0, np.int64)
        return Pass(number, rank, none_T, none_T, none_T, none_T, (), physical_TLK, stale)
    owner_T = owners(place, record, mode, tokens)
    rid_S = names_of(place, record, mode, tokens, int(owner_T[-1]) + 1)
    if mode == VERIFY and rid_S is not None:
        owner_T = np.repeat(np.arange(len(rid_S)), tokens // len(rid_S))
    alone_T = np.bincount(owner_T)[owner_T] == 1
    decode_T = {EXTEND: alone_T & False, MIXED: alone_T & (position_T > 0)}.get(mode, alone_T | True)
    return Pass(number, rank, token_id_T, position_T, decode_T.astype(np.int8), owner_T, rid_S, physical_TLK, stale)


def mode_of(place: str, record: dict) -> str:
    """Return the name of a record's mode, which it says as a number or by name."""
    said = record.get("forward_mode")
    if isinstance(said, str):
        name = said.lower().rpartition(".")[2].removeprefix("target_")
    else:
        number = int(whole_numbers(place, record, "forward_mode", 0))
        name = MODES[number - 1] if 1 <= number <= len(MODES) else None
    if name not in MODES:
        raise InputError(f"{place}: forward_mode is {said!r:.40}, allowed {NAMED}")
    return name


def owners(place: str, record: dict, mode: str, tokens: int) -> np.ndarray:
    """Return the request of every token, numbered within the pass; each decoded token is of another one."""
    if mode == DECODE and record.get("extend_seq_lens") is not None:
        length_S = whole_numbers(place, record, "extend_seq_lens", 1)
        if (length_S != 1).any():
            found = f"extend_seq_lens is {length_S.tolist()!s:.60} in a pass that decodes"
            raise InputError(f"{place}: {found}, allowed none, or ones")
    if mode not in (EXTEND, MIXED):
        return np.arange(tokens)
    length_S = whole_numbers(place, record, "extend_seq_lens", 1)
    if not len(length_S) or (length_S < 1).any() or length_S.sum() != tokens:
        found = f"extend_seq_lens is {length_S.tolist()!s:.60}"
        raise InputError(f"{place}: {found}, allowed numbers >= 1 that sum to {tokens}, the input_ids")
    return np.repeat(np.arange(len(length_S)), length_S)


def names_of(place: str, record: dict, mode: str, tokens: int, requests: int) -> tuple[str, ...] | None:
    """Return the names of the pass's requests, None where it has none; InputError for another number of them."""
    rids = record.get("rids")
    if rids is None:
        return None
    if not isinstance(rids, list) or not all(type(each) in (str, int) for each in rids) or not rids:
        raise InputError(f"{place}: rids is {rids!r:.40}, allowed a list of names, one per request")
    if tokens % len(rids) if mode == VERIFY else len(rids) != requests:
        allowed = f"a divisor of {tokens}, the input_ids" if mode == VERIFY else f"{requests}, the requests"
        raise InputError(f"{place}: {len(rids)} rids, allowed {allowed}")
    if len({*rids}) < len(rids):
        raise InputError(f"{place}: rids is {rids!r:.40}, allowed each once")
    return tuple(map(str, rids))


def ids_of(place: str, record: dict, tokens: int, layers: int) -> tuple[np.ndarray, int]:
    """Return physical ids [tokens, layers, columns], and how many rows behind the tokens hold ids too."""
    physical_LTK = whole_numbers(place, record, "topk_ids_of_layer", 3)
    if physical_LTK.shape[0] != layers or physical_LTK.shape[1] < tokens or not physical_LTK.shape[2]:
        found = f"topk_ids_of_layer has shape {physical_LTK.shape}"
        raise InputError(f"{place}: {found}, allowed ({layers}, >= {tokens}, >= 1): layers, input_ids, columns")
    stale = int((physical_LTK[:, tokens:] != -1).any((0, 2)).sum())
    return physical_LTK[:, :tokens].transpose(1, 0, 2), stale
