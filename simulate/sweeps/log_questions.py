"""What is asked of a folder of logs: which simulations the executed runs of every set call for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from moe_replay.simulate.end_to_end.judged_steps import widest_step
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import mixed_header
from moe_replay.traces.load_trace import read_loads
from moe_replay.traces.rooflines.gpu_peaks import GPUS
from moe_replay.traces.runs.cost_table import load_costs
from moe_replay.traces.served_layers.served_times import KIND, ROOFLINE_TYPES
from moe_replay.traces.shipped import SERVED_TIMES, shipped_costs

SERVED = ("wide", "served")  # models whose operating points may have been executed
OPEN_LOOP_SEQUENCES = 2000
PLACED = (
    "--devices", 8, "--method", "contiguous,greedy,anti-correlation,anti-correlation=0.02,lpt,eplb,bound",
    "--redundant", "0,8", "--batch", 128,
)  # fmt: skip
SYSTEMS = (
    "--systems", "contiguous,lpt,smartmoe-adaptive,eplb,eplb-adaptive,co-activation", "--redundant", 8,
    "--links", "h100-ndr,pcie4-ethernet100", "--devices", 8, "--nodes", "1,2", "--micro-batches", "1,2",
)  # fmt: skip
SHAPE = "gpt-oss-20b-alone"  # the layer whose costs steps over linked devices have
SHIPPED_SHAPE = f"nvidia-h200/{SHAPE}"  # where a set's own device did not measure it
STEPS = {  # of linked devices, by the file that they are cut from
    "language-decode.trace.parquet": ("--phase", "decode", "--step-tokens", 64, "--interval", 8),
    "language-prefill.trace.parquet": ("--phase", "prefill", "--step-tokens", 2048),
    "training/unbalanced.loads.parquet": ("--interval", 2),
}
MOST_TOKENS = 12288  # of a step of a training, where no expert gets more of them than costs were measured for
SKEWED = ("--tokens", "64,2048", "--steps", 8)
OVER_TIME = ("--method", "smartmoe", "--devices", 8, "--interval", "0,1,5,20,50", "--threshold", "1,1.1")


@dataclass(frozen=True)
class Question:
    """A simulation of a set of logs: the question it answers, and the words of `python -m simulate` that do so."""

    text: str
    words: tuple[str, ...]


def questions_of(logs: Path, out: Path, replications: int) -> list[Question]:
    """Return the questions of all sets LOGS/DEVICE/DATA; what answers them goes to OUT/DEVICE/DATA.

    A model called X has its trace in X.trace.parquet, what it selects under other rules in rules/X-*, and its costs in
    X.costs.parquet where they are not the set's. InputError for a folder without sets.
    """
    folders = sorted(folder for folder in logs.glob("*/*") if folder.is_dir()) if logs.is_dir() else []
    if not folders:
        raise InputError(f"{logs}: holds no logs; allowed: a folder of DEVICE/DATA folders")
    return [
        each for folder in folders for each in questions_of_set(folder, out / folder.relative_to(logs), replications)
    ]


def questions_of_set(folder: Path, out: Path, replications: int) -> list[Question]:
    """Return the questions of one set, in the order of the runs that pose them."""
    asked, many = [], ("--replications", replications, "--jobs", 1)
    if (folder / "executed").is_dir():
        words = ("like", folder / "executed", executed_trace(folder), "--costs", folder / "costs.parquet", *many)
        asked.append((f"what would each executed run of {name_of(folder)} have cost?", (*words, "--out", out)))
    if (folder / "memory-executed").is_dir():
        words = ("like", folder / "memory-executed", *stepwise_trace(folder), "--costs", folder / "memory-costs")
        said = f"what would the runs with expert memory of {name_of(folder)} have cost?"
        asked.append((said, (*words, "--jobs", 1, "--out", out / "memory-simulated")))
    for model, costs in served_models(folder):
        said = f"what would the operating points of {name_of(folder)}'s {model} model have cost?"
        words = ("like", folder / "serving", folder / "rules", "--costs", costs, *many)
        asked.append((said, (*words, "--out", out / "serving")))
        said = f"do re-gated traces of {name_of(folder)} predict what was recorded under the rule?"
        words = ("open-loop", folder / f"{model}.trace.parquet", folder / "rules", "--costs", costs)
        sequences = ("--sequences", OPEN_LOOP_SEQUENCES)
        asked.append((said, (*words, *sequences, *many, "--out", out / "open_loop" / model)))
    for name in ("prefill", "decode", "stepwise"):
        if (trace := folder / f"language-{name}.trace.parquet").exists():
            words = ("miss-curves", trace, "--out", out / "misses" / f"language-{name}.csv")
            asked.append((f"how often would caches miss in the {name} trace of {name_of(folder)}?", words))
    for name in ("wide.trace.parquet", "language-decode.trace.parquet", "training/unbalanced.loads.parquet"):
        if (folder / name).exists():
            short = "training" if name.startswith("training") else name.removesuffix(".trace.parquet")
            words = ("place", folder / name, *PLACED, "--out", out / "placed" / short)
            asked.append((f"how balanced would experts of {name_of(folder)} be on eight devices ({short})?", words))
    for loads in sorted((folder / "training").glob("*.loads.parquet")):
        name = loads.name.removesuffix(".loads.parquet")
        words = ("rebalance", loads, *OVER_TIME, "--points", "--out", out / "rebalanced" / f"{name}.csv")
        asked.append((f"what would placing experts anew have gained while {name_of(folder)} trained ({name})?", words))
    if (folder / "ports.parquet").exists():
        words = ("all-to-all", folder / "ports.parquet", "--out", out / "all-to-all.parquet")
        asked.append((f"what would ports have taken for the exchanges of {name_of(folder)}?", words))
    asked += linked_questions(folder, out)
    asked += skew_questions(folder, out)
    return [Question(said, tuple(map(str, words))) for said, words in asked]


def linked_questions(folder: Path, out: Path) -> Iterator[tuple[str, tuple]]:
    """Yield what is asked of steps over linked devices: of loads only where every token has one expert.

    Language traces are asked where their own device measured the layer's costs; all of them if no device did.
    """
    own = folder.parent / "shapes" / f"{SHAPE}.costs.parquet"
    elsewhere = any(folder.parents[1].glob(f"*/shapes/{own.name}"))
    costs = own if own.exists() else SHIPPED_SHAPE
    for name, cut in STEPS.items():
        of_counts, short = name.endswith(".loads.parquet"), name.split("/")[0].removesuffix(".trace.parquet")
        if not (folder / name).exists():
            continue
        if of_counts:
            step = tokens_of_step(folder / name, own if own.exists() else shipped_costs()[SHIPPED_SHAPE])
            if step is None:
                continue
            cut = ("--step-tokens", step, *cut)
        elif elsewhere and not own.exists():
            continue
        words = ("end-to-end", folder / name, "--costs", costs, *cut, *SYSTEMS)
        said = f"what would steps of {name_of(folder)} take on eight linked devices ({short})?"
        yield said, (*words, "--out", out / "end_to_end" / f"{short}.csv")


def skew_questions(folder: Path, out: Path) -> Iterator[tuple[str, tuple]]:
    """Yield what is asked of served layers: of each with the costs of its experts and the roofline, where there are.

    The language models have as many experts and the k of gpt-oss-20b, so their traces are asked for its layer.
    """
    for served in sorted(folder.glob(f"*{SERVED_TIMES}")):
        name = served.name.removesuffix(SERVED_TIMES)
        costs = folder / f"{name.rpartition('-')[0]}-alone.costs.parquet"
        texts = [folder.parent / "text" / f"language-{each}.trace.parquet" for each in ("decode", "prefill")]
        of_text = [path for path in texts if path.exists() and costs.name.startswith(SHAPE)]
        words = ("skew", served, *of_text, *SKEWED)
        words += ("--costs", costs, "--links", "h100-ndr") if costs.exists() else ()
        words += ("--gpu", gpu) if (gpu := roofline_gpu(served)) else ()
        yield f"what does skew cost in a served layer ({name})?", (*words, "--out", out / "skew" / f"{name}.csv")


def roofline_gpu(served: Path) -> str | None:
    """Return the GPU of a served layer, where its roofline is known; a damaged file is refused by its question."""
    try:
        header = mixed_header(served, KIND)
    except InputError:
        return None
    gpu = header["device"].rpartition(" ")[2].lower()
    return gpu if gpu in GPUS and header["model"]["dtype"] in ROOFLINE_TYPES else None


def tokens_of_step(loads: Path, costs: Path) -> int | None:
    """Return how wide steps of a training may be; None where its tokens have several experts, or no step fits.

    A damaged file is refused by other questions.
    """
    try:
        found = read_loads(loads)
        if found.model.used_k != 1:
            return None
        return widest_step(found, MOST_TOKENS, int(load_costs(costs).columns["tokens"].max()))
    except InputError:
        return None


def name_of(folder: Path) -> str:
    """Return `device/data`."""
    return f"{folder.parent.name}/{folder.name}"


def executed_trace(folder: Path) -> Path:
    """Return the trace of the executed runs: the wide model's, else that of layers of a published shape."""
    wide = folder / "wide.trace.parquet"
    return wide if wide.exists() else folder / "executed.trace.parquet"


def stepwise_trace(folder: Path) -> tuple[object, ...]:
    """Return the trace of the runs with expert memory, and what their policies had learned from."""
    stepwise = folder / "language-stepwise.trace.parquet"
    if stepwise.exists():
        return (stepwise, "--known", folder / "language-prefill.trace.parquet")
    return (folder / "memory.trace.parquet",)


def served_models(folder: Path) -> list[tuple[str, Path]]:
    """Return (model, its costs) where operating points were executed.

    InputError where two models were: the runs in serving/ would be simulated with the costs of one of them.
    """
    models = [model for model in SERVED if any((folder / "rules").glob(f"{model}-*.trace.parquet"))]
    if len(models) > 1:
        raise InputError(f"{folder}/rules: holds rules of {' and '.join(models)}; allowed: those of one model")
    own = {model: folder / f"{model}.costs.parquet" for model in models}
    return [(model, costs if costs.exists() else folder / "costs.parquet") for model, costs in own.items()]
