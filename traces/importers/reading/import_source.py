"""What an importer is given: files, options that say what the files do not, and how the result's header is made."""

import hashlib
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import SCORE_KINDS, Header, ModelInfo
from moe_replay.traces.selections import Trace

PHASES = ("prefill", "decode", "both")
NO_SCORES = "none"
KEEP, REAL = "keep", "real"
UNROUTED = (KEEP, REAL)
UNROUTED_ROWS, PADDING, ABORTED = "unrouted", "padding", "aborted"
LEAVE_OUT = {
    UNROUTED_ROWS: "tokens without a route",
    PADDING: "rows of padding",
    ABORTED: "responses that were aborted",
}
FILES_ARE = ("ranks", "iterations")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user states beside the files; None or empty: nothing. Each kind takes some of them.

    `experts` is how many a router chooses among, of which the last `zero_experts` have no weights, `k` the experts per
    token; `layers` the model's own numbers of its MoE layers (`1-26`, `0,2,4`); `hidden_layers` counts dense layers
    too; `start_token` is the first token that has rows; `sequence_tokens` cuts a stream of tokens into sequences;
    `arrays` names arrays, `field=name`; the last `shared_slots` of a row hold shared experts; `unrouted`
    says what to do with rows without a route, `leave_out` what to leave out. `dtype` is the type of raw bytes,
    `prompt_tokens` and `generated_tokens` are those of every response that does not tell; `id_map` is a file that says
    which expert each physical id is; with `approximate` counts need not add up. A placement is on `devices` in `nodes`.
    Raises InputError for an impossible value.
    """

    model: str | None = None
    experts: int | None = None
    k: int | None = None
    layers: str | None = None
    hidden_layers: int | None = None
    score_kind: str | None = None
    ranked: bool | None = None
    phase: str | None = None
    start_token: int | None = None
    sequence_tokens: int | None = None
    arrays: tuple[str, ...] = ()
    zero_experts: int | None = None
    shared_slots: int | None = None
    unrouted: str | None = None
    leave_out: tuple[str, ...] = ()
    dtype: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    id_map: Path | None = None
    approximate: bool | None = None
    devices: int | None = None
    nodes: int | None = None
    columns: tuple[str, ...] = ()
    first_expert: int | None = None
    varying_k: bool | None = None
    axes: str | None = None
    files_are: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("score_kind", (*SCORE_KINDS, NO_SCORES)), ("phase", PHASES), ("unrouted", UNROUTED),
            ("files_are", FILES_ARE),
        ):  # fmt: skip
            if getattr(self, name) not in (None, *allowed):
                raise InputError(f"{option(name)} is {getattr(self, name)!r}, allowed {', '.join(allowed)}")
        for word in self.leave_out:
            if word not in LEAVE_OUT:
                raise InputError(f"--leave-out has {word!r:.40}, allowed {', '.join(LEAVE_OUT)}")
        contrary = {KEEP: {UNROUTED_ROWS}, REAL: {UNROUTED_ROWS, PADDING}}.get(self.unrouted, set()) & {*self.leave_out}
        if contrary:
            raise InputError(f"--unrouted {self.unrouted} and --leave-out {min(contrary)}: allowed one of them")

    @property
    def given(self) -> list[str]:
        """The names of the options that say something."""
        return [name for name, value in asdict(self).items() if value not in (None, ())]


def option(name: str) -> str:
    """Return an option as it is typed."""
    return {"arrays": "--array", "columns": "--column", "id_map": "--map"}.get(name, "--" + name.replace("_", "-"))


@dataclass(frozen=True)
class Source:
    """The files to import, the options, and the provenance that goes into the result's header."""

    kind: str
    paths: tuple[Path, ...]
    options: Options
    provenance: dict = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The files in a few words, for messages about all of them."""
        return str(self.paths[0]) if len(self.paths) == 1 else f"{self.paths[0]} and {len(self.paths) - 1} more"

    def one_file(self) -> Path:
        """Return the only file; InputError if there are more."""
        if len(self.paths) > 1:
            raise InputError(f"{self.paths[1]}: a second file, allowed one file of {self.kind} per import")
        return self.paths[0]

    def data(self, files: list[Path]) -> dict:
        """Return the header's `data`: where the numbers came from, with one digest over all files."""
        digests = [sha256_of(path) for path in files]
        digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        count = "" if len(files) == 1 else f", {len(files)} files"
        return {"name": files[0].name, "digest": digest, "note": f"imported from {self.kind}{count}"}

    def model(
        self, used_k: int, layer_ids: tuple[int, ...], experts: int | None = None, zero_experts: int | None = None
    ) -> ModelInfo:
        """Return the model as far as it is known; `zero_experts` is what the source itself says of them."""
        asked = self.options.zero_experts
        if None not in (asked, zero_experts) and asked != zero_experts:
            raise InputError(
                f"{self.place}: zero_experts is {zero_experts}, but --zero-experts {asked}; allowed: the same"
            )
        zero_experts = asked if zero_experts is None else zero_experts
        name, experts = self.options.model or "unknown", experts or self.options.experts
        if used_k > experts:
            raise InputError(f"{self.place}: {used_k} experts per token, allowed 1..{experts}, the experts of a layer")
        try:
            return ModelInfo(
                name=name, experts=experts, used_k=used_k, layer_ids=layer_ids,
                zero_experts=zero_experts or 0, shared_experts=self.options.shared_slots or 0,
            )  # fmt: skip
        except InputError as error:
            raise InputError(f"{self.place}: {error}") from None

    def trace(
        self, model: ModelInfo, notes: dict, files: list[Path] | None = None, ranked: bool | None = None,
        chosen_first: bool = False, **arrays: np.ndarray,
    ) -> Trace:  # fmt: skip
        """Return the trace of arrays named as its fields; InputError with the file's name if they break a rule.

        `ranked` and `chosen_first` are what the files themselves say of the order of experts.
        """
        if model.used_k > (slots := arrays["experts_TLK"].shape[2]):
            raise InputError(f"{self.place}: --k is {model.used_k}, but rows hold {slots} experts; allowed 1..{slots}")
        scored = arrays.get("scores_TLK") is not None
        if self.options.unrouted == REAL:
            notes = notes | {"unrouted": REAL}  # `check` finds such rows again
        try:
            header = Header(
                model=model,
                gate_rule="unknown",
                score_kind=self.options.score_kind if scored else None,
                ranked=bool(self.options.ranked if ranked is None else ranked),
                chosen_first=chosen_first,
                data=self.data(files or list(self.paths)),
                device="unknown",
                provenance=self.provenance,
                notes=notes,
            )
            return Trace(header=header, **arrays)
        except InputError as error:
            raise InputError(f"{self.place}: {error}") from None


def given(source: Source, name: str, why: str) -> int:
    """Return an option that a kind needs for some files only; InputError, with the reason, where it is not given."""
    value = getattr(source.options, name)
    if value is None:
        raise InputError(f"{source.kind}: needed: {option(name)}; {why}")
    return value


def layer_numbers(text: str, layers: int | None = None) -> tuple[int, ...]:
    """Return the numbers in `0-3,5`, ascending, or 0..layers-1 for `all`; InputError if they are no layers."""
    if text == "all" and layers is not None:
        return tuple(range(layers))
    numbers = []
    for word in text.split(","):
        low, dash, high = word.partition("-")
        if not low.isdecimal() or not (high.isdecimal() if dash else True) or len(word) > 16:
            raise InputError(f"--layers has {word!r}, allowed numbers and ranges: 0-3,5, or all")
        numbers += range(int(low), min(int(high or low), 2**16) + 1)
    if any(after <= before for before, after in pairwise(numbers)):
        raise InputError(f"--layers is {text!r}, allowed ascending numbers, each once")
    if not numbers:
        raise InputError(f"--layers is {text!r}, allowed at least one layer, ranges upwards")
    if layers is not None and numbers[-1] >= layers:
        raise InputError(f"--layers names layer {numbers[-1]}, allowed 0..{layers - 1}, the layers in the file")
    return tuple(numbers)
