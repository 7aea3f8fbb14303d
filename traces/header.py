"""The header of a trace: which model, which gate, which data, which device, and how it was made."""

import json
from dataclasses import asdict, dataclass, field, fields

from moe_replay.traces.command_line.provenance import SCHEMA_VERSION
from moe_replay.traces.errors import InputError

SCORE_KINDS = ("softmax", "sigmoid", "logit", "selected")
DATA_KEYS = ("name", "digest", "note")
LATER_KEYS = ("chosen_first",)  # of the header, which earlier files do not have
LARGEST_EXPERTS = 32767  # expert ids are int16


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The model that was recorded.

    `experts` is how many a layer's router chooses among; `used_k` how many of them the model itself uses per token;
    `layer_ids` the model's own numbers of its MoE layers, ascending (a trace numbers them 0..L-1). The last
    `zero_experts` of a layer's experts have no weights (LongCat-Flash's zero-computation experts). Sizes a source does
    not tell are None. Raises InputError for an impossible value.
    """

    name: str
    experts: int
    used_k: int
    layer_ids: tuple[int, ...]
    shared_experts: int = 0
    d_model: int | None = None
    d_ff: int | None = None
    expert_bytes: int | None = None
    dtype: str | None = None
    zero_experts: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_ids", checked_layers(self.layer_ids))
        text("model.name", self.name)
        whole("model.experts", self.experts, 1, LARGEST_EXPERTS)
        whole("model.used_k", self.used_k, 1, self.experts)
        whole("model.shared_experts", self.shared_experts, 0)
        whole("model.zero_experts", self.zero_experts, 0, self.experts - 1)
        for name in ("d_model", "d_ff", "expert_bytes"):
            if getattr(self, name) is not None:
                whole(f"model.{name}", getattr(self, name), 1)
        if self.dtype is not None:
            text("model.dtype", self.dtype)

    @property
    def layers(self) -> int:
        """The number of MoE layers, L."""
        return len(self.layer_ids)

    @property
    def real_experts(self) -> int:
        """E, the experts of a layer that have weights: those to place, to cache and to compute."""
        return self.experts - self.zero_experts

    def to_json(self) -> dict:
        """Return plain values; `zero_experts` only where there are some, as it was not told in earlier files."""
        content = asdict(self) | {"layer_ids": list(self.layer_ids)}
        return content if self.zero_experts else {name: content[name] for name in content if name != "zero_experts"}

    @classmethod
    def from_json(cls, content: object) -> "ModelInfo":
        """Return the model in what `to_json` gave; InputError for a missing or unknown key or an impossible value."""
        names = [each.name for each in fields(cls)]
        check_keys("model", content, names, [name for name in names if name != "zero_experts"])
        return cls(**content)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a trace says about itself; the meaning of its scores above all.

    `gate_rule` names the rule that turns scores into the weights the model used; `score_kind` is one of SCORE_KINDS,
    or None for a trace without scores; `ranked` is False where the source did not keep the router's order.
    `chosen_first`: not ranked, but the first `used_k` slots of a row are the experts that the router chose; the others
    are those that it left, best score first. `data` holds the data set's name, its digest and a note, None where
    unknown. `provenance` and `notes` hold anything JSON can.
    Raises InputError for an impossible value.
    """

    model: ModelInfo
    gate_rule: str
    score_kind: str | None
    ranked: bool
    data: dict
    device: str
    provenance: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)
    schema: int = SCHEMA_VERSION
    chosen_first: bool = False

    def __post_init__(self) -> None:
        whole("schema", self.schema, SCHEMA_VERSION, SCHEMA_VERSION)
        if not isinstance(self.model, ModelInfo):
            raise InputError(f"header: model is a {type(self.model).__name__}, allowed a ModelInfo")
        text("gate_rule", self.gate_rule)
        text("device", self.device)
        if self.score_kind is not None and self.score_kind not in SCORE_KINDS:
            raise InputError(f"header: score_kind is {self.score_kind!r}, allowed {', '.join(SCORE_KINDS)} or null")
        if not isinstance(self.ranked, bool):
            raise InputError(f"header: ranked is {self.ranked!r}, allowed true or false")
        if not isinstance(self.chosen_first, bool):
            raise InputError(f"header: chosen_first is {self.chosen_first!r:.40}, allowed true or false")
        if self.ranked and self.chosen_first:
            raise InputError("header: chosen_first is true beside ranked, allowed only where ranked is false")
        make_plain(self)

    def to_json(self) -> dict:
        """Return plain values; `chosen_first` only where it is true, as it was not told in earlier files."""
        content = asdict(self) | {"model": self.model.to_json()}
        return {name: content[name] for name in content if name not in LATER_KEYS or content[name]}

    @classmethod
    def from_json(cls, content: dict) -> "Header":
        """Return the header in what `to_json` gave; InputError for a missing or unknown key or an impossible value."""
        names = [each.name for each in fields(cls)]
        check_keys("", content, names, [name for name in names if name not in LATER_KEYS])
        return cls(**{**content, "model": ModelInfo.from_json(content["model"])})


def check_keys(place: str, content: object, known: list | tuple, needed: list | tuple) -> None:
    """Refuse what is no dictionary, lacks a needed key, or has one that is not known."""
    at = f"header: {place}: " if place else "header: "
    if not isinstance(content, dict):
        raise InputError(f"{at}is {type(content).__name__}, allowed an object with {', '.join(known)}")
    for key in content:
        if key not in known:
            raise InputError(f"{at}unknown key {str(key)!r}; known: {', '.join(known)}")
    for key in needed:
        if key not in content:
            raise InputError(f"{at}key {key!r} is missing")


def whole(name: str, value: object, low: int, high: int = 2**62) -> None:
    """Refuse what is no whole number within low..high."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        allowed = f"{low}..{high}" if high < 2**62 else f">= {low}"
        raise InputError(f"header: {name} is {value!r:.40}, allowed whole numbers {allowed}")


def text(name: str, value: object, empty: bool = False) -> None:
    """Refuse what is no string, an empty one, or one that cannot be written as UTF-8."""
    if not isinstance(value, str) or not (value or empty):
        raise InputError(f"header: {name} is {value!r:.40}, allowed a non-empty string")
    plain(name, value)


def plain(name: str, value: object) -> object:
    """Return a copy of a value made of what JSON can hold; refuse anything else."""
    try:
        written = json.dumps(value, allow_nan=False, ensure_ascii=False)
        written.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"header: {name} cannot be written as JSON ({error!s:.60})") from None
    if name in ("data", "provenance", "notes") and not isinstance(value, dict):
        raise InputError(f"header: {name} is a {type(value).__name__}, allowed an object")
    return json.loads(written)


def make_plain(header: object) -> None:
    """Make `data`, `provenance` and `notes` of a frozen header plain; InputError for what they may not say."""
    for name in ("data", "provenance", "notes"):
        object.__setattr__(header, name, plain(name, getattr(header, name)))
    check_keys("data", header.data, DATA_KEYS, DATA_KEYS)
    for name, value in header.data.items():
        if value is not None:
            text(f"data.{name}", value, empty=True)


def checked_layers(layer_ids: object) -> tuple[int, ...]:
    """Return the layer numbers as a tuple; refuse any that are not whole, >= 0 and ascending."""
    if not isinstance(layer_ids, (list, tuple)) or not layer_ids:
        raise InputError(f"header: model.layer_ids is {layer_ids!r:.40}, allowed ascending whole numbers >= 0")
    for before, number in zip((-1, *layer_ids), layer_ids, strict=False):
        whole("model.layer_ids", number, 0, 2**31 - 1)
        if number <= before:
            raise InputError(f"header: model.layer_ids has {number} after {before}, allowed ascending numbers")
    return tuple(layer_ids)
