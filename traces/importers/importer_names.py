"""The table of importers: a new kind is one new module, of the kind's name, and one entry here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import Options, Source, option
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import ExpertPlacement
from moe_replay.traces.selections import Trace

Imported = Trace | LoadTrace | ExpertPlacement


@dataclass(frozen=True)
class Kind:
    """Which options a kind needs, and which it takes beside them and --model."""

    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


APART = ("zero_experts", "shared_slots")  # experts that are none to load, or none to choose
ROWS = (*APART, "unrouted", "leave_out", "id_map")  # what reading/sound_rows.py does
SAID_APART = ("ranked", "start_token", "dtype", "prompt_tokens", "generated_tokens")  # of responses that do not say it
CLUSTER = ("devices", "nodes")  # of a placement
TABLE = ("k", "layers", "phase", "score_kind", "ranked", "columns", "first_expert", "varying_k", *ROWS)
COUNTS = (
    "experts",
    "layers",
    "arrays",
    "columns",
    "first_expert",
    "axes",
    "files_are",
    "approximate",
    "id_map",
    *APART,
)
KINDS = {
    "npz": Kind((), ("experts", "phase", "k", "layers", "score_kind", "ranked", "arrays", *ROWS)),
    "vllm": Kind(("experts", "layers"), ("k", "hidden_layers", *SAID_APART, *ROWS)),
    "sglang": Kind(("experts", "layers"), ("k", "hidden_layers", *SAID_APART, *ROWS)),
    "flame-moe": Kind(("sequence_tokens", "score_kind"), ("experts", "k", "ranked", "unrouted", "leave_out")),
    "smartmoe": Kind((), ("experts", "k", *APART)),
    "tensorrt-llm": Kind((), (*APART, "experts", "approximate", "id_map", *CLUSTER)),
    "sglang-recorder": Kind(("layers",), ("experts", "k", "ranked", "approximate", *ROWS, *CLUSTER)),
    "eplb": Kind((), ("experts", "k", "layers", *CLUSTER)),
    "table": Kind(("experts",), TABLE),
    "counts": Kind(("k",), COUNTS),
    "llama-cpp": Kind((), ("experts", "approximate", *TABLE)),
    "megatron": Kind(("k",), ("experts", "approximate", *APART)),
    "slime": Kind(("experts",), ("k", "layers", "ranked", *ROWS)),
    "verl": Kind(("experts",), ("k", "layers", "ranked", *ROWS)),
}


def reader(kind: str) -> Callable[[Source], Imported]:
    """Return how a kind is read: the function `read` of the module of that name, `a_b` for `a-b`."""
    return import_module(f"moe_replay.traces.importers.{kind.replace('-', '_')}").read


def import_files(kind: str, paths: list[Path], options: Options, provenance: dict | None = None) -> Imported:
    """Return what files of a kind hold; InputError for an unknown kind, a wrong option or what the kind refuses."""
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}")
    entry = KINDS[kind]
    for name in entry.needs:
        if name not in options.given:
            raise InputError(f"{kind}: needed: {option(name)}; the files do not tell")
    allowed = ("model", *entry.needs, *entry.takes)
    for name in options.given:
        if name not in allowed:
            known = ", ".join(option(each) for each in allowed)
            raise InputError(f"{kind}: {option(name)} means nothing here; allowed: {known}")
    return reader(kind)(Source(kind, tuple(paths), options, provenance or {}))
