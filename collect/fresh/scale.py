"""How much every collector is asked for: on a GPU in full, on a CPU less, so that two cores need about an hour."""

from __future__ import annotations

from dataclasses import dataclass, replace

Words = tuple[str, ...]  # options of a command as they are typed


def words(text: str) -> Words:
    """Return the words of a text."""
    return tuple(text.split())


@dataclass(frozen=True)
class Scale:
    """What decides how long collecting takes. Fields that hold options are words for the commands of their name.

    `image_sizes` cuts the data set for classifiers, `vision_images` for vision transformers; `validation` is how many
    training images choose thresholds. `seen` is the vision transformer that watches clips. `text_loads` and
    `vision_loads` say how long those models train whose loads are recorded. `peak_memory` says which training
    iterations are captured and how long their orders are searched. `seen_periods` are images between two choices of
    residents, no more than the data set has to test with. `memory_budgets` are budgets of plans in bytes,
    which suit the size of the language model.
    """

    name: str
    image_sizes: Words
    validation: int
    wide_epochs: int
    quality_epochs: int
    quality_jobs: int
    cost_repetitions: int
    execute: Words
    serve: Words
    family_seeds: int
    family_epochs: int
    memory: Words
    peak_memory: Words
    vision: str
    vision_images: Words
    vision_model: Words
    vision_batch: Words
    vision_epochs: int
    vision_timed: Words
    seen: str
    text_loads: Words
    vision_loads: Words
    language: Words
    dense_language: Words
    segments: int
    windows: int
    requests: int
    masked_units: int
    seen_periods: str
    configurations: int
    memory_budgets: str


GPU = Scale(
    name="cuda", image_sizes=(), validation=5000, wide_epochs=5, quality_epochs=8, quality_jobs=8, cost_repetitions=20,
    execute=words("--replications 3"), serve=words("--replications 3"), family_seeds=8, family_epochs=6, memory=(),
    peak_memory=words("--graphs vit-b256-ac,lm-b32-ac,cls-b4096-ac --seconds 20s"),
    vision="dense,switch:32,switch:64,random:32", vision_images=(),
    vision_model=words("--patch 4 --width 300 --heads 6 --hidden 600"), vision_batch=words("--batch 256"),
    vision_epochs=20, vision_timed=(), seen="switch32",
    text_loads=words("--steps 4000 --batch 32 --width 256 --hidden 256 --loads-every 20"),
    vision_loads=words("--epochs 10 --loads-every 10"),
    language=words("--steps 20000 --batch 32 --width 256 --hidden 256"),
    dense_language=words("--experts 1 --k 1 --steps 20000 --batch 32 --width 256 --hidden 1024"),
    segments=1000, windows=32, requests=384, masked_units=240, seen_periods="64,512", configurations=60,
    memory_budgets="48MB,72MB,96MB,120MB",
)  # fmt: skip
CPU = Scale(
    name="cpu", image_sizes=words("--train-images 10000 --test-images 5000"), validation=1000, wide_epochs=2,
    quality_epochs=3, quality_jobs=2, cost_repetitions=5,
    execute=words("--replications 1 --batches-per-queue 10 --least-passes 500"),
    serve=words("--replications 1 --in-flight 256 --batches-per-queue 15"), family_seeds=2, family_epochs=2,
    memory=words("--batch 100,400 --repetitions 3"), peak_memory=words("--graphs cls-b64 --seconds 10s"),
    vision="dense,switch:4,switch:8,random:4",
    vision_images=words("--train-images 4000 --test-images 2000"), vision_model=words("--patch 8"), vision_batch=(),
    vision_epochs=3, vision_timed=words("--training-images 1280 --inference-images 5000"), seen="switch8",
    text_loads=words("--steps 300 --loads-every 2"), vision_loads=words("--epochs 5 --loads-every 1"),
    language=words("--steps 600"), dense_language=words("--experts 1 --k 1 --steps 600 --hidden 512"),
    segments=200, windows=6, requests=72, masked_units=60, seen_periods="64,512", configurations=16,
    memory_budgets="12MB,18MB,24MB,30MB",
)  # fmt: skip


def scale_for(kind: str, data: str) -> Scale:
    """Return the scale of a kind of device, `cuda` or `cpu`, for a data set: patches divide its images' width.

    `digits` has 1,437 training and 360 test images.
    """
    few = {"validation": 300, "seen_periods": "64,256"} if data == "digits" else {}
    if kind == "cuda":
        return replace(GPU, **few)
    if few:
        few["memory"] = words("--batch 100,300 --repetitions 3")
    patch = {"fashion-mnist": 7, "digits": 2}.get(data, 8)
    return replace(CPU, vision_model=words(f"--patch {patch}"), **few)
