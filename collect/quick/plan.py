"""The steps of a quick run: their commands, what those make, and how the time is shared out among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe_replay.collect.quick.steps import Command, Step
from moe_replay.collect.real_layers.layer_shapes import SHAPES, shape_of
from moe_replay.traces.command_line.child_process import stage_words

EXECUTED = "gpt-oss-20b"  # its layers have as many experts as the language traces, of which a token takes as many
TRACES = Path("traces/data/cpu-amd-epyc/text")
PACKAGES = ("numpy", "pyarrow", "rich", "typer")


@dataclass(frozen=True)
class Place:
    """Where and how a quick run collects: the device as asked for, its folder of logs, models, recorded traces."""

    device: str
    on_gpu: bool
    scale: int
    minutes: float
    logs: Path
    models: Path
    traces: Path
    gpus: int = 0

    def command(self, *words: object, makes: tuple[Path, ...], wants: tuple[Path, ...] = ()) -> Command:
        """Return a command of `python -m collect` on the device."""
        asked = (*stage_words("collect"), *map(str, words), "--device", self.device)
        return Command(asked, makes, wants)

    def share(self, seconds_of_480: float) -> float:
        """Return what part of the time is kept free for a step that is owed so many of eight minutes' seconds."""
        return seconds_of_480 * self.minutes / 8


def plan(place: Place) -> list[Step]:
    """Return the steps in the order in which they run; exchanges need GPUs between which they go."""
    steps = [layer_costs(place), link(place), language(place), executions(place), dispatch_memory(place)]
    return [*steps, ports(place)] if place.gpus > 1 else steps


def layer_costs(place: Place) -> Step:
    """Step 1: what batches cost at the layer shapes of published models."""
    folder = place.logs / "shapes"
    sizes = () if place.on_gpu else ("--sizes", "1,8", "--repetitions", 1)
    made = {
        shape: tuple(folder / f"{shape_of(shape, place.scale).name}.{kind}.parquet" for kind in ("costs", "times"))
        for shape in SHAPES
    }  # fmt: skip
    # A shape that fails on a GPU may leave it unusable for its process, so each has its own there.
    groups = [(shape,) for shape in SHAPES] if place.on_gpu else [tuple(SHAPES)]
    commands = tuple(
        place.command(
            "layer-costs", *group, "--out", folder, "--scale", place.scale, *sizes,
            makes=tuple(path for shape in group for path in made[shape]),
        )
        for group in groups
    )  # fmt: skip
    packs = ("shapes/*.costs.*", "shapes/*.times.*")
    return Step(1, "layer-costs", commands, place.share(20), place.share(120), packs, PACKAGES)


def link(place: Place) -> Step:
    """Step 2: what an expert of each shape takes from host to device."""
    out = place.logs / "shapes" / "link.parquet"
    commands = (
        place.command("link", "--shapes", ",".join(SHAPES), "--scale", place.scale, "--out", out, makes=(out,)),
    )
    return Step(2, "link", commands, place.share(15), place.share(25), ("shapes/link*",), PACKAGES)


def language(place: Place) -> Step:
    """Step 3: a language model trained here, its held-out quality and its traces."""
    text, model = place.logs / "text", place.models / "language.pt"
    if place.on_gpu:
        sizes = ("--batch", 192, "--width", 512, "--hidden", 512, "--heads", 8, "--learning-rate", 1.5e-3)
        sizes += ("--seconds", place.share(90), "--precision", "high")
        segments, windows, steps, requests = 200, 16, 3, 72
    else:
        sizes = ("--seconds", place.share(20), "--batch", 4, "--width", 32, "--hidden", 32)
        segments, windows, steps, requests = 8, 2, 1, 8
    recorded = ("--checkpoint", model, "--candidates", 8, "--score-bits", 7)
    traces = {phase: text / f"language-{phase}.trace.parquet" for phase in ("prefill", "decode", "stepwise")}
    asked = {
        "prefill": ("--windows", windows), "decode": ("--requests", requests),
        "stepwise": ("--windows", steps, "--seed", 7),
    }  # fmt: skip
    commands = (
        place.command("language", *sizes, "--out", model, makes=(model,)),
        *(
            place.command(
                "language-route", "--phase", phase, *recorded, *asked[phase], "--out", out, makes=(out,), wants=(model,)
            )
            for phase, out in traces.items()
        ),
        place.command(
            "language-quality", "--checkpoint", model, "--segments", segments, "--out", text / "language.csv",
            makes=(text / "language.csv",), wants=(model,),
        ),
    )  # fmt: skip
    return Step(3, "language", commands, place.share(60), place.share(150), ("text/language*",), PACKAGES)


def executions(place: Place) -> Step:
    """Step 4: queues, lockstep and expert memory, executed at a real shape; traces are shipped ones, not step 3's."""
    folder = place.logs / shape_of(EXECUTED, place.scale).name
    decode, stepwise = (place.traces / f"language-{phase}.trace.parquet" for phase in ("decode", "stepwise"))
    tiny = ("--queue-size", "1,4", "--in-flight", "4,8", "--replications", 1, "--share", 0.02, "--slots", 8)
    sizes = () if place.on_gpu else (*tiny, "--repetitions", 1)
    command = place.command(
        "shape-runs", EXECUTED, "--trace", decode, "--stepwise", stepwise, "--out", folder, "--scale", place.scale,
        "--seconds", place.share(170), *sizes, makes=(folder,), wants=(decode, stepwise),
    )  # fmt: skip
    packs = tuple(f"{folder.name}/{pattern}" for pattern in ("*.parquet", "*/*.parquet"))
    return Step(4, "executions", (command,), place.share(45), place.share(155), packs, PACKAGES)


def dispatch_memory(place: Place) -> Step:
    """Step 5: bytes and time of static capacity and dynamic dispatch on one layer of a real shape."""
    folder = place.logs / shape_of(EXECUTED, place.scale).name
    sizes = ("512,4096", "--most-memory", "40GiB") if place.on_gpu else ("32,128", "--repetitions", 2)
    out = folder / "memory.csv"
    command = place.command(
        "dispatch-memory", "--shape", EXECUTED, "--scale", place.scale, "--batch", *sizes, "--out", out, makes=(out,)
    )
    packs = tuple(f"{folder.name}/memory.{kind}" for kind in ("csv", "json"))
    share_s = max(place.share(12), 10)  # of a short run too, for imports alone take seconds
    return Step(5, "dispatch-memory", (command,), min(place.share(10), share_s), share_s, packs, PACKAGES)


def ports(place: Place) -> Step:
    """Step 6: exchanges between GPUs, from balanced to all-to-one, and the link fitted to them."""
    out = place.logs / "cluster" / "ports.parquet"
    commands = (place.command("ports", "--repetitions", 3, "--out", out, makes=(out,)),)
    # The last step, which takes what the others left; starting the processes takes most of what it is owed.
    return Step(6, "ports", commands, place.share(15), place.share(18), ("cluster/ports*",), PACKAGES)
