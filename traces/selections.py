"""The trace in memory: which experts every token selected in every layer, in execution order."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.checks import check_selections, check_sequences, check_tokens
from moe_replay.traces.file.chunks import chunks, in_threads, leaf, root
from moe_replay.traces.header import Header

TOKEN_FIELDS = {
    "sequence_T": np.int32,
    "position_T": np.int32,
    "step_T": np.int32,
    "phase_T": np.int8,
    "token_id_T": np.int32,
    "rank_T": np.int16,
}
SEQUENCE_FIELDS = {
    "label_S": np.int32,
    "prediction_S": np.int32,
    "domain_S": np.str_,
    "prompt_len_S": np.int32,
    "arrival_ns_S": np.int64,
}
LAYER_FIELDS = {"norm_TL": np.float32}
SLOT_FIELDS = {"experts_TLK": np.int16, "scores_TLK": np.float32}
FIELDS = {**SLOT_FIELDS, **TOKEN_FIELDS, **LAYER_FIELDS, **SEQUENCE_FIELDS}
NEEDED = ("experts_TLK", "sequence_T", "position_T", "step_T", "phase_T")
LARGEST_ROWS = 2**31 - 1  # tokens are numbered in int32
MEANING = ("schema", "model", "gate_rule", "score_kind", "ranked", "chosen_first")  # of the header, in a trace's digest


@dataclass(frozen=True)
class Passes:
    """The passes of a trace in execution order; a pass is the rows with equal (sequence, step), which are together.

    `first_row_P` and `last_row_P` (both belong to the pass), `sequence_P`, `step_P`: int32 arrays.
    """

    first_row_P: np.ndarray
    last_row_P: np.ndarray
    sequence_P: np.ndarray
    step_P: np.ndarray

    def __len__(self) -> int:
        return len(self.first_row_P)


@dataclass(frozen=True, eq=False, kw_only=True)
class Trace:
    """The selections of T tokens in L layers, checked on construction; its arrays cannot be written to.

    experts_TLK  int16    ids in the router's order, distinct within a row; -1 = empty slot, only behind the last expert
    scores_TLK   float32  over all E experts before selection, of the header's `score_kind`; 0 in empty slots
    sequence_T, position_T, step_T  int32; phase_T  int8 (0 encode or prefill, 1 decode)
    token_id_T int32, rank_T int16, norm_TL float32  optional
    label_S, prediction_S, prompt_len_S  int32 (labels: -1 unknown), arrival_ns_S  int64, domain_S  text: optional,
    in ascending order of the sequence ids (`sequences_S`)

    Rows are in execution order: steps never run backwards, the rows of a (sequence, step) are together with
    ascending positions. Positions of different passes are free: a rejected draft token is computed again.
    Where `ranked`, scores never rise along a row. A router that ranks by something else (a biased score) is not ranked:
    where `chosen_first`, its choice is the first `used_k` slots, and scores never rise along those behind.
    Raises InputError naming row, column, value, what is allowed and how many such rows there are.
    """

    header: Header
    experts_TLK: np.ndarray
    sequence_T: np.ndarray
    position_T: np.ndarray
    step_T: np.ndarray
    phase_T: np.ndarray
    scores_TLK: np.ndarray | None = None
    token_id_T: np.ndarray | None = None
    rank_T: np.ndarray | None = None
    norm_TL: np.ndarray | None = None
    label_S: np.ndarray | None = None
    prediction_S: np.ndarray | None = None
    domain_S: np.ndarray | None = None
    prompt_len_S: np.ndarray | None = None
    arrival_ns_S: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.header, Header):
            raise InputError(f"header is a {type(self.header).__name__}, allowed a Header")
        check_shapes(self)
        for name in self.present:
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)
        check_tokens(self)
        check_sequences(self)
        check_selections(self)

    def __repr__(self) -> str:
        k = f"{self.K} selected" if self.header.model.used_k == self.K else f"{self.K} recorded"
        return f"Trace({self.header.model.name}: {self.T:,} tokens, {self.L} layers, {self.E} experts, {k})"

    @property
    def T(self) -> int:
        """Tokens."""
        return self.experts_TLK.shape[0]

    @property
    def L(self) -> int:
        """MoE layers."""
        return self.experts_TLK.shape[1]

    @property
    def K(self) -> int:
        """Experts recorded per token and layer; may exceed what the model used (`header.model.used_k`)."""
        return self.experts_TLK.shape[2]

    @property
    def E(self) -> int:
        """Experts per layer that have weights; a model may have others, ids E and above: `header.model.experts`."""
        return self.header.model.real_experts

    @property
    def S(self) -> int:
        """Distinct sequences."""
        return len(self.sequences_S)

    @property
    def present(self) -> tuple[str, ...]:
        """The names of the fields this trace has, in the order of FIELDS."""
        return tuple(name for name in FIELDS if getattr(self, name) is not None)

    @cached_property
    def sequences_S(self) -> np.ndarray:
        """The distinct sequence ids, ascending (int32)."""
        return distinct(self.sequence_T)

    @cached_property
    def passes(self) -> Passes:
        """The passes in execution order."""
        new_T = (self.step_T[1:] != self.step_T[:-1]) | (self.sequence_T[1:] != self.sequence_T[:-1])
        first_row_P = np.append(0, np.flatnonzero(new_T) + 1).astype(np.int32)
        last_row_P = np.append(first_row_P[1:] - 1, self.T - 1).astype(np.int32)
        return Passes(first_row_P, last_row_P, self.sequence_T[first_row_P], self.step_T[first_row_P])

    @cached_property
    def field_digests(self) -> dict[str, str]:
        """A digest per field, the same whatever file the trace came from."""
        return {name: field_digest(name, getattr(self, name), self.L) for name in self.present}

    @cached_property
    def digest(self) -> str:
        """A digest of the recorded choices: every array, the model, the gate rule and the meaning of the scores.

        Who recorded them, when and on what (device, data, provenance, notes) does not count.
        """
        said = self.header.to_json()
        meaning = {key: said[key] for key in MEANING if key in said}
        content = json.dumps({"fields": self.field_digests, "header": meaning}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    @property
    def ks(self) -> range:
        """How many first slots of a row may be a choice of experts: any number where ranked, else one number."""
        if self.header.ranked:
            return range(1, self.K + 1)
        only = self.header.model.used_k if self.header.chosen_first else self.K
        return range(only, only + 1)

    def check_k(self, k: int) -> None:
        """Refuse a number of first slots that is no choice of experts: another k, or where no order was kept."""
        if not isinstance(k, (int, np.integer)) or not 1 <= k <= self.K:
            raise InputError(f"k is {k!r}, allowed 1..{self.K}, the experts recorded per token and layer")
        if k not in self.ks:
            chosen = ", its router's choice" if self.header.chosen_first else ""
            raise InputError(f"k is {k}, allowed only {self.ks[0]}{chosen}: the trace is not ranked")

    def at_k(self, k: int) -> "Trace":
        """Return the trace with each row's first k slots; InputError for another k, or where no order was kept."""
        self.check_k(k)
        names = [name for name in SLOT_FIELDS if getattr(self, name) is not None]
        cut = {name: np.ascontiguousarray(getattr(self, name)[:, :, :k]) for name in names}
        return replace(self, header=replace(self.header, chosen_first=False), **cut)

    def rows(self, start: int, stop: int) -> "Trace":
        """Return the trace of the tokens start..stop-1; its sequences keep what is known about them."""
        if not 0 <= start < stop <= self.T:
            raise InputError(f"rows {start}..{stop - 1}, allowed rows within 0..{self.T - 1}")
        made = object.__new__(Trace)  # neighbouring rows of a trace break no rule: they are not checked again
        values = dict.fromkeys(FIELDS) | self._part(slice(start, stop)) | {"header": self.header}
        for name, each in values.items():
            if isinstance(each, np.ndarray):
                each.flags.writeable = False
            object.__setattr__(made, name, each)
        return made

    def only(self, wanted_T: np.ndarray | slice) -> "Trace":
        """Return the trace of some tokens (a mask, or a slice); its sequences keep what is known about them."""
        return replace(self, **self._part(wanted_T))

    def _part(self, wanted_T: np.ndarray | slice) -> dict[str, np.ndarray]:
        """Return the fields of some tokens, and those of their sequences."""
        names = [name for name in self.present if name not in SEQUENCE_FIELDS]
        parts = {name: getattr(self, name)[wanted_T] for name in names}
        index = np.searchsorted(self.sequences_S, distinct(parts["sequence_T"]))
        known = {name: getattr(self, name)[index] for name in self.present if name in SEQUENCE_FIELDS}
        return parts | known


def distinct(ids: np.ndarray) -> np.ndarray:
    """Return the distinct values, ascending; ascending input, the usual case, is not sorted again."""
    if (ids[1:] >= ids[:-1]).all():
        return ids[np.append(True, ids[1:] != ids[:-1])]
    return np.unique(ids)


def check_shapes(trace: Trace) -> None:
    """Refuse missing fields, other types, and shapes that do not fit each other or the header."""
    missing = [name for name in NEEDED if getattr(trace, name) is None]
    if missing:
        raise InputError(f"{missing[0]} is missing, allowed in every trace")
    for name in trace.present:
        check_type(name, getattr(trace, name))
    tokens, layers, slots = trace.experts_TLK.shape
    if not 1 <= tokens <= LARGEST_ROWS:
        raise InputError(f"experts_TLK holds {tokens} tokens, allowed 1..{LARGEST_ROWS}")
    if layers != trace.header.model.layers:
        raise InputError(f"experts_TLK holds {layers} layers, model.layer_ids {trace.header.model.layers}")
    if not 1 <= slots <= (experts := trace.header.model.experts):
        raise InputError(f"experts_TLK holds {slots} slots, allowed 1..{experts}, the model's experts")
    if trace.header.chosen_first and slots <= trace.header.model.used_k:
        raise InputError(f"chosen_first: {slots} slots hold no expert behind the {trace.header.model.used_k} chosen")
    if (trace.scores_TLK is None) != (trace.header.score_kind is None):
        raise InputError("scores_TLK and the header's score_kind are allowed only together")
    sizes = {"T": tokens, "L": layers, "K": slots}
    if any(name in SEQUENCE_FIELDS for name in trace.present):
        sizes["S"] = trace.S
    for name in trace.present:
        shape = tuple(sizes[letter] for letter in name.rsplit("_", 1)[1])
        if getattr(trace, name).shape != shape:
            raise InputError(f"{name} has shape {getattr(trace, name).shape}, allowed {shape}")


def check_type(name: str, values: object) -> None:
    """Refuse what is no array of the field's type and number of dimensions."""
    allowed = np.dtype(FIELDS[name])
    if not isinstance(values, np.ndarray):
        raise InputError(f"{name} is a {type(values).__name__}, allowed a NumPy array")
    if values.dtype.kind != "U" if allowed.kind == "U" else values.dtype != allowed:
        raise InputError(f"{name} is {values.dtype}, allowed {allowed.name}")
    if values.ndim != len(name.rsplit("_", 1)[1]):
        raise InputError(f"{name} has {values.ndim} dimensions, allowed {len(name.rsplit('_', 1)[1])}")


def field_leaf(name: str, values: np.ndarray) -> bytes:
    """Return the digest of one run of a field."""
    if name == "domain_S":
        return hashlib.sha256(json.dumps(values.tolist()).encode()).digest()
    return leaf(values)


def field_root(name: str, shape: tuple[int, ...], leaves: Sequence[bytes]) -> str:
    """Return a field's digest from its shape and the digests of its runs."""
    return root("U" if name == "domain_S" else FIELDS[name], shape, leaves)


def field_digest(name: str, values: np.ndarray, layers: int) -> str:
    """Return a field's digest; a field with a value per sequence is digested as one run."""
    runs = [slice(None)] if name in SEQUENCE_FIELDS else chunks(len(values), layers)
    return field_root(name, values.shape, in_threads(lambda rows: field_leaf(name, values[rows]), runs))
