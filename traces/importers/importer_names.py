"""The table of importers: a new kind is one new module and one entry here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers import flame_moe, npz, sglang, sglang_recorder, smartmoe, tensorrt_llm, vllm
from moe_replay.traces.importers.import_source import Options, Source, option
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.selections import Trace


@dataclass(frozen=True)
class Kind:
    """How a kind is read, which options it needs and which it takes beside them and --model."""

    read: Callable[[Source], Trace | LoadTrace]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


APART = ("zero_experts", "shared_slots")  # experts that are none to load, or none to choose
ROWS = (*APART, "unrouted")
KINDS = {
    "npz": Kind(npz.read, ("experts", "phase"), ("k", "layers", "score_kind", "ranked", "arrays", *ROWS)),
    "vllm": Kind(vllm.read, ("experts", "layers"), ("ranked", "start_token", *ROWS)),
    "sglang": Kind(sglang.read, ("experts", "k", "layers", "hidden_layers"), ("ranked", "start_token", *ROWS)),
    "flame-moe": Kind(flame_moe.read, ("sequence_tokens", "score_kind"), ("experts", "k", "ranked")),
    "smartmoe": Kind(smartmoe.read, (), ("experts", "k", *APART)),
    "tensorrt-llm": Kind(tensorrt_llm.read, (), APART),
    "sglang-recorder": Kind(sglang_recorder.read, ("experts", "k", "layers"), ("ranked", *APART)),
}


def import_files(kind: str, paths: list[Path], options: Options, provenance: dict | None = None) -> Trace | LoadTrace:
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
    return entry.read(Source(kind, tuple(paths), options, provenance or {}))
