"""The kind that files are of, how one can tell, and the command that imports them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.guessing.file_signs import Signs, signs_of
from moe_replay.traces.importers.importer_names import KINDS
from moe_replay.traces.importers.reading.import_source import option
from moe_replay.traces.importers.sequences.whole_trace import MARKS
from moe_replay.traces.importers.tables.column_fields import CELLS, LAYERS, NAMES, SLOTS, normal
from moe_replay.traces.importers.tables.count_arrays import USUAL as COUNTS

MEANING = {
    "experts": ("E", "experts that a router chooses among in a layer"),
    "k": ("K", "experts per token and layer"),
    "layers": ("LAYERS", "the model's own numbers of its MoE layers: 1-26, or all"),
    "phase": ("PHASE", "prefill, decode or both: what the rows are, where no column tells"),
    "sequence_tokens": ("N", "tokens of a sequence"),
    "score_kind": ("KIND", "softmax, sigmoid, logit or selected: what the scores are; none leaves them out"),
    "devices": ("DEVICES", "devices that the placement is for"),
    "hidden_layers": ("N", "all layers of the model, dense ones too"),
}
ARRAYS = ("experts", "phase")
SCORED = ("scores", "probs", *NAMES["score"], *NAMES["scores"])


@dataclass(frozen=True)
class Guess:
    """A kind, how one can tell, options beside those that the kind needs, and what the result is called."""

    kind: str
    how: str
    options: tuple[str, ...] = ()
    suffix: str = "trace"


def rows_of_table(signs: Signs) -> bool:
    """Return whether columns name experts."""
    names = {normal(name) for name in signs.names}
    listed = names & {*NAMES["expert"], *NAMES["experts"]}
    return bool(listed) or any(each.fullmatch(name) for name in names for each in (CELLS, SLOTS))


def counted_table(signs: Signs) -> bool:
    """Return whether columns are layer, expert and count."""
    names = {normal(name) for name in signs.names}
    return all(names & {*NAMES[field]} for field in ("layer", "expert", "count"))


def table_guess(signs: Signs) -> Guess:
    """Return the guess for a table of selections."""
    names = {normal(name) for name in signs.names}
    asked = [] if names & {*NAMES["phase"]} else ["phase"]
    asked += ["score_kind"] if names & {*SCORED} else []
    return Guess("table", f"columns {', '.join(signs.names)!s:.100}", tuple(asked))


def recorder_guess(signs: Signs) -> Guess:
    """Return the guess for a file of SGLang's recorder: tokens, counts, or a placement."""
    held = next(name for name in ("logical_count", "records", "physical_to_logical_map") if name in signs.names)
    how = f"{held}, as SGLang's recorder writes it"
    if held == "physical_to_logical_map":
        return Guess("sglang-recorder", how, ("devices",), "placement")
    tokens = "records.topk_ids_of_layer" in signs.names
    return Guess("sglang-recorder", how, ("experts", "k"), "trace" if tokens else "loads")


def scored(signs: Signs) -> tuple[str, ...]:
    """Return --score-kind where an .npz holds scores."""
    return ("score_kind",) if {"scores", "probs"} & {*signs.names} else ()


def of_arrays(signs: Signs) -> tuple[str, ...]:
    """Return what an .npz of selections does not say of itself: nothing where `export npz` wrote it."""
    return () if signs.has(*MARKS) else (*ARRAYS, *scored(signs))


def many(signs: Signs, least: int, most: int) -> bool:
    """Return whether an array of a usual name of counts has so many dimensions."""
    found = [at for name, at in signs.dimensions.items() if name.lower() in (*COUNTS, "array")]
    return len(found) == 1 and least <= found[0] <= most


# Each sign with its guess, the first that holds counts; a sign says what it saw.
RULES: tuple[tuple[Callable[[Signs], bool], Callable[[Signs], Guess]], ...] = (
    (lambda s: s.form == "gguf", lambda s: Guess("llama-cpp", "a GGUF file: an imatrix with counts", suffix="loads")),
    (lambda s: s.form == "npz" and s.has("dump_version", "loads", "forward_counts"),
     lambda s: Guess("megatron", "arrays dump_version, loads, forward_counts", suffix="loads")),
    (lambda s: s.form == "npz" and (s.has("phy2log") or (s.has("weight") and not s.has("experts"))),
     lambda s: Guess("eplb", "array phy2log or weight", ("k",), "loads")),
    (lambda s: s.form == "npz" and (s.has("experts") or s.has("routed_experts")) and not s.has("layer"),
     lambda s: Guess("npz", f"arrays {', '.join(s.names)!s:.80}", of_arrays(s))),
    (lambda s: s.has("records") or s.has("logical_count") or s.has("physical_to_logical_map"), recorder_guess),
    (lambda s: s.form == "pt" and any(name.endswith("rollout_routed_experts") for name in s.names)
     and max(s.dimensions.get(name, 0) for name in s.names) < 4,
     lambda s: Guess("slime", "samples with rollout_routed_experts")),
    (lambda s: s.form == "pt" and any(name.endswith("routed_experts") for name in s.names),
     lambda s: Guess("verl", "tensor routed_experts of a padded batch")),
    (lambda s: any(name.startswith("choices") for name in s.names),
     lambda s: Guess("vllm", "responses with choices, as vLLM serves them")),
    (lambda s: any(name.startswith(("meta_info", "sgl_ext")) for name in s.names),
     lambda s: Guess("sglang", "responses with meta_info or sgl_ext, as SGLang serves them", ("k", "hidden_layers"))),
    (lambda s: s.form == "parquet" and s.has("scores", "indices") and len(s.names) == 2,
     lambda s: Guess("flame-moe", "columns scores and indices")),
    (lambda s: s.form == "csv" and [normal(name) for name in s.names] == ["layer", "expert"],
     lambda s: Guess("llama-cpp", "CSV of layer,expert: moe-trace, in the order of evaluation", ("experts", "k"))),
    (counted_table, lambda s: Guess("counts", "columns of layer, expert and count", ("experts",), "loads")),
    (rows_of_table, table_guess),
    (lambda s: many(s, 2, 4), lambda s: Guess("counts", "an array of two to four axes", suffix="loads")),
    (lambda s: s.form in ("parquet", "npz", "jsonl", "json") and any(LAYERS.fullmatch(normal(n)) for n in s.names),
     lambda s: Guess("counts" if s.form == "json" else "table", "columns by layer")),
    (lambda s: s.form == "csv" and all(word.replace(".", "").replace("e+", "").isdecimal() for word in s.names),
     lambda s: Guess("counts", "rows of numbers without names: a row per layer", suffix="loads")),
    (lambda s: s.form == "bin", lambda s: Guess("llama-cpp", "no text: 32-bit records of layer, tokens, k, experts",
                                                ("experts", "k"))),
)  # fmt: skip


def guessed(paths: list[Path]) -> Guess:
    """Return the kind of files or of a folder; InputError where nothing tells."""
    path = paths[0]
    if path.is_dir() or path.name.startswith("table_iter") or path.suffix in (".yaml", ".yml", ".safetensors"):
        return by_name(path)
    signs = signs_of(path)
    for holds, guess in RULES:
        if holds(signs):
            return guess(signs)
    held = ", ".join(signs.names) or "no names"
    logs = {"input_length", "request_tokens", "contexttokens"} & {normal(name) for name in signs.names}
    hint = "; a log of requests: see `traces arrivals`" if logs else ""
    raise InputError(f"{path}: {signs.form} with {held!s:.100}: nothing tells which kind it is{hint}")


def by_name(path: Path) -> Guess:
    """Return the kind of a folder, or of a file that its name tells."""
    names = [each.name for each in sorted(path.iterdir())] if path.is_dir() else [path.name]
    for begins, ends, guess in (
        ("table_iter", ".log", Guess("smartmoe", "logs table_iter<I>_rank<R>.log", suffix="loads")),
        ("meta_info", ".json", Guess("tensorrt-llm", "meta_info.json beside rank<R>.safetensors", suffix="loads")),
        ("rank", ".safetensors", Guess("tensorrt-llm", "rank<R>.safetensors", suffix="loads")),
        ("layer_", ".parquet", Guess("flame-moe", "files layer_NN.parquet")),
        ("mcore_ep_loads", ".npz", Guess("megatron", "files mcore_ep_loads_rank<R>", suffix="loads")),
        ("", ".npz", Guess("npz", "a folder of .npz files, a request each", ARRAYS)),
        ("", ".yaml", Guess("tensorrt-llm", "a placement in YAML", ("devices",), "placement")),
    ):
        if any(name.startswith(begins) and name.endswith(ends) for name in names):
            return guess
    raise InputError(f"{path}: a folder of {', '.join(names)!s:.80}: nothing tells which kind it is")


def command_of(guess: Guess, paths: list[Path]) -> list[str]:
    """Return the command that imports the files, and a line for each value that the user has to state."""
    asked = dict.fromkeys((*KINDS[guess.kind].needs, *guess.options))
    words = [f"{option(name)} {MEANING.get(name, ('VALUE', ''))[0]}" for name in asked]
    stem = paths[0].name.split(".")[0] or "x"
    ending = "json" if guess.suffix == "placement" else "parquet"
    files = " ".join(shlex.quote(str(path)) for path in paths)
    line = " ".join(["python -m traces import", guess.kind, files, *words, f"--out {stem}.{guess.suffix}.{ending}"])
    return [line, *(f"{MEANING[name][0]}: {MEANING[name][1]}" for name in asked if name in MEANING)]
