"""`npz`: plain NumPy arrays with sequence offsets, the form to bring one's own data in."""

from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.array_file import opened_arrays
from moe_replay.traces.importers.reading.id_maps import map_note, stated_map
from moe_replay.traces.importers.reading.import_source import NO_SCORES, Source, given, layer_numbers
from moe_replay.traces.importers.reading.sound_rows import sound_rows
from moe_replay.traces.importers.reading.token_rows import (
    ONE_AFTER_ANOTHER,
    Sequences,
    check_array,
)
from moe_replay.traces.importers.sequences.request_arrays import KNOWN, files_of, in_sequences, joined
from moe_replay.traces.importers.sequences.whole_trace import is_whole, whole_trace
from moe_replay.traces.selections import LARGEST_ROWS, Trace

# What is looked for without --array; `scores` may also be called `probs`.
USUAL = {name: name for name in ("experts", "offsets", "prompt_len", "layer_ids", "zero_experts", "chosen_first")}
FIELDS = (*USUAL, "scores", "domain")
ROUTED = "routed_experts"  # as engines call them


def read(source: Source) -> Trace:
    """Return the trace in `experts` [T, L, K] and `offsets` (sequence i = rows offsets[i]:offsets[i+1]).

    Optional: `scores` or `probs` [T, L, K] (`--score-kind` says what they are, or leaves them out), `prompt_len` per
    sequence, `layer_ids`, `zero_experts` (how many of the last experts have no weights), `chosen_first` (the k of
    rows that hold the k chosen, then what was left, best score first), and, only if named, `domain`, a text per
    sequence. `--phase` says whether the rows are prompts, decoded tokens (their positions begin at prompt_len), or
    both. -1 is an empty slot.

    Several files, or a folder of them, are joined; a file without offsets is one sequence, a request. `experts`
    [B, T, L, K] with a mask [B, T] is a padded batch.

    What `export npz` wrote is the whole trace, and is read as that (`whole_trace`).
    """
    paths = files_of(source.paths)
    if (made := written_here(paths[0], source)) is not None:
        return made
    for name in ("experts", "phase"):
        given(source, name, "the files do not tell")
    arrays = joined(paths, [read_arrays(path, source) for path in paths])
    return trace_of(paths[0], arrays, source, paths)


def written_here(path: Path, source: Source) -> Trace | None:
    """Return the trace that `export npz` wrote, None where another program wrote the file, or options read it anew."""
    if path.suffix != ".npz":
        return None
    with opened_arrays(path) as held:
        if not is_whole(source, list(held.files)):
            return None
        arrays = {name: held[name] for name in held.files}
    return whole_trace(path, arrays, source)


def trace_of(path: Path, arrays: dict, source: Source, files: list[Path] | None = None) -> Trace:
    """Return the trace of arrays by field, beside them `names` and `left_out`; InputError says which does not fit."""
    place = f"{path}: {arrays['names']['experts']}"
    if files and len(files) > 1:
        place = f"{files[0]} and {len(files) - 1} more: {arrays['names']['experts']}"
    check_array(place, arrays["experts"])
    check_beside(path, arrays)
    stated_TLK = arrays.pop("experts")  # and gone below: a long recording should not be in memory twice
    layer_ids = layers_of(path, source, arrays.get("layer_ids"), stated_TLK.shape[1])
    routes = sound_rows(source, place, stated_TLK, layer_ids, stated_map(source))
    experts_TLK = routes.experts_TLK
    tokens, _, k = experts_TLK.shape
    if "scores" in arrays:
        filled_TLK = (experts_TLK < 0) & (stated_TLK[:, :, :k] >= 0)
        with np.errstate(over="ignore"):  # what overflows is refused as infinite
            scores_TLK = np.where(filled_TLK, 0, arrays["scores"][:, :, :k]).astype(np.float32)
    else:
        scores_TLK = None
    del stated_TLK
    length_S = lengths(path, arrays["offsets"], tokens)
    prompt_len_S = whole_numbers(path, arrays, "prompt_len", (len(length_S),))
    fields = sequences(path, source.options.phase, length_S, prompt_len_S).token_fields()
    for name, at, kind in (("prompt_len", "prompt_len_S", np.int32), ("domain", "domain_S", np.str_)):
        if name in arrays:
            fields[at] = arrays[name].astype(kind)
    left_out = [*arrays["left_out"], *routes.left_out]
    notes = ONE_AFTER_ANOTHER | map_note(source) | ({"left_out": left_out} if left_out else {})
    stated = whole_numbers(path, arrays, "zero_experts", ())
    first = chosen_first(path, source, arrays, k)
    used_k = first or source.options.k or k
    model = source.model(used_k, layer_ids, zero_experts=None if stated is None else int(stated))
    made = source.trace(
        model, notes, files, chosen_first=first > 0, experts_TLK=experts_TLK, scores_TLK=scores_TLK, **fields
    )
    return routes.only(made)


def chosen_first(path: Path, source: Source, arrays: dict, slots: int) -> int:
    """Return the k of rows that hold the chosen experts first, 0 where the file does not say so; --k agrees with it."""
    stated = whole_numbers(path, arrays, "chosen_first", ())
    if stated is not None and not 1 <= stated < slots:
        raise InputError(f"{path}: chosen_first is {stated}, allowed 1..{slots - 1}: rows hold {slots} experts")
    if stated is not None and source.options.k not in (None, int(stated)):
        raise InputError(f"{path}: chosen_first is {stated}, but --k is {source.options.k}; allowed: the same")
    return 0 if stated is None else int(stated)


def array_names(source: Source, held: list[str]) -> dict[str, str]:
    """Return which array of the file is which field: what --array says, else the usual names that are there."""
    names = {field: name for field, name in USUAL.items() if name in held}
    if "experts" not in names and ROUTED in held:
        names["experts"] = ROUTED
    scores = [name for name in ("scores", "probs") if name in held]
    if len(scores) == 1:
        names["scores"] = scores[0]
    for each in source.options.arrays:
        field, equals, name = each.partition("=")
        if not equals or field not in FIELDS:
            raise InputError(f"--array is {each!r}, allowed FIELD=NAME with FIELD one of {', '.join(FIELDS)}")
        if name not in held:
            raise InputError(f"{source.place}: no array {name!r}; it holds {', '.join(held) or 'nothing'}")
        names[field] = name
    if len(scores) == 2 and "scores" not in names:
        raise InputError(f"{source.place}: holds scores and probs; allowed: --array scores=NAME to say which")
    others = set(held) - set(names.values()) - {*KNOWN, *USUAL}
    missing = ["experts"] if "experts" not in names else ["offsets"] if "offsets" not in names and others else []
    if missing:
        found = f"no array for {missing[0]!r}; it holds {', '.join(held) or 'nothing'}"
        other = " (`import eplb` reads weight and phy2log)" if {"weight", "phy2log"} & {*held} else ""
        raise InputError(f"{source.place}: {found}; allowed: --array {missing[0]}=NAME{other}")
    return names


def read_arrays(path: Path, source: Source) -> dict:
    """Return the arrays by field, beside them `names` and `left_out`; InputError if the file cannot be read."""
    with opened_arrays(path) as held:
        names = array_names(source, list(held.files))
        if "scores" in names and source.options.score_kind is None:
            raise InputError(f"{path}: holds {names['scores']!r}; needed: --score-kind, what they are, or none")
        if source.options.score_kind == NO_SCORES:
            names.pop("scores", None)
        elif "scores" not in names and source.options.score_kind:
            raise InputError(f"{path}: has no scores for --score-kind; allowed: --array scores=NAME")
        arrays = {field: held[name] for field, name in names.items()}
        others = sorted(set(held.files) - set(names.values()))
        beside = {name: held[name] for name in others if name in KNOWN} if "offsets" not in names else {}
        left_out = [f"array {name}" for name in others if name not in beside]
    return in_sequences(path, arrays, beside) | {"names": names, "left_out": left_out}


def check_beside(path: Path, arrays: dict) -> None:
    """Refuse scores and domains whose type or shape does not fit."""
    names = arrays["names"]
    if "scores" in arrays:
        scores, shape = arrays["scores"], arrays["experts"].shape
        if scores.shape != shape or scores.dtype.kind != "f":
            found = f"{names['scores']} is {scores.dtype} of shape {scores.shape}"
            raise InputError(f"{path}: {found}, allowed floating point of shape {shape}, as the experts")
    if "domain" in arrays:
        domain, shape = arrays["domain"], (arrays["offsets"].size - 1,)
        if domain.dtype.kind != "U" or domain.shape != shape:
            found = f"{names['domain']} is {domain.dtype} of shape {domain.shape}"
            raise InputError(f"{path}: {found}, allowed text of shape {shape}, one per sequence")


def whole_numbers(path: Path, arrays: dict, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return an array of whole numbers in 0..2^31-1 as int64, None where absent; InputError if it is not one."""
    values = arrays.get(name)
    if values is None:
        return None
    if values.dtype.kind not in "iu" or values.shape != shape:
        found = f"{name} is {values.dtype} of shape {values.shape}"
        raise InputError(f"{path}: {found}, allowed whole numbers of shape {shape}")
    if values.size and not (values.min() >= 0 and values.max() <= LARGEST_ROWS):
        raise InputError(f"{path}: {name} has {values.min()}..{values.max()}, allowed 0..{LARGEST_ROWS}")
    return values.astype(np.int64)


def layers_of(path: Path, source: Source, layer_ids: np.ndarray | None, layers: int) -> tuple[int, ...]:
    """Return the model's own layer numbers: those of the file or of --layers, which agree, else 0..layers-1."""
    found = whole_numbers(path, {} if layer_ids is None else {"layer_ids": layer_ids}, "layer_ids", (layers,))
    if source.options.layers:
        numbers = layer_numbers(source.options.layers)
        if len(numbers) != layers:
            raise InputError(f"{path}: {layers} layers, but --layers names {len(numbers)}; allowed: as many")
        if found is not None and tuple(found.tolist()) != numbers:
            raise InputError(f"{path}: layer_ids are not those of --layers; allowed: the same, or no --layers")
        return numbers
    return tuple(range(layers)) if found is None else tuple(found.tolist())


def lengths(path: Path, offsets: np.ndarray, tokens: int) -> np.ndarray:
    """Return the rows of every sequence; InputError unless offsets ascend from 0 to the number of rows."""
    if offsets.ndim != 1 or offsets.size < 2 or offsets.dtype.kind not in "iu":
        found = f"offsets is {offsets.dtype} of shape {offsets.shape}"
        raise InputError(f"{path}: {found}, allowed a list of at least two whole numbers")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != tokens:
        raise InputError(f"{path}: offsets run from {offsets[0]} to {offsets[-1]}, allowed 0 to {tokens}, the rows")
    length_S = np.diff(offsets)
    if (length_S < 1).any():
        at = int((length_S < 1).argmax())
        raise InputError(f"{path}: offsets[{at + 1}] is {offsets[at + 1]}, allowed above {offsets[at]} as before it")
    return length_S


def sequences(path: Path, phase: str, length_S: np.ndarray, prompt_len_S: np.ndarray | None) -> Sequences:
    """Return the sequences; InputError for prompt lengths that do not fit the phase."""
    none_S = np.zeros_like(length_S)
    if phase == "decode":
        return Sequences(length_S, none_S, none_S if prompt_len_S is None else prompt_len_S)
    if prompt_len_S is None:
        if phase == "both":
            raise InputError(f"{path}: --phase both needs prompt_len; allowed: --array prompt_len=NAME")
        return Sequences(length_S, length_S, none_S)
    wrong_S = prompt_len_S > length_S if phase == "both" else prompt_len_S != length_S
    if wrong_S.any():
        at = int(wrong_S.argmax())
        found = f"sequence {at}: prompt_len is {prompt_len_S[at]}, rows are {length_S[at]}"
        allowed = "at most as many as rows" if phase == "both" else "equal numbers"
        raise InputError(f"{path}: {found}, allowed with --phase {phase}: {allowed}")
    return Sequences(length_S, prompt_len_S, none_S)
