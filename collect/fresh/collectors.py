"""The collectors of a fresh set of logs in their order, as data: what each is asked, and what runs beside it."""

from __future__ import annotations

from pathlib import Path

from moe_replay.collect.fresh.asked import Call, Files, Fresh, Part

WAYS = {"resident": (), "load": ("--slots", 8), "masked": ("--slots", 8, "--miss", "redirect")}  # of expert memory
# Executions with expert slots, which are as many as the language model has experts for.
REMEMBERED = (
    "--in-flight 1 --lockstep 0 --slots 4,8,16 --cache lru",
    "--in-flight 1 --lockstep 0 --slots 8 --cache lru --miss block",
    "--in-flight 1 --lockstep 0 --slots 8 --cache fifo,lifo,lfu",
    "--in-flight 1 --lockstep 0 --slots 16 --cache lru --prefetch co-activation",
    "--in-flight 1 --lockstep 0 --slots 4,8,16 --cache importance --miss redirect",
    "--in-flight 1 --lockstep 0 --slots 4,8,16 --cache importance --miss redirect --period 64",
    "--in-flight 1 --lockstep 0 --slots 16 --cache importance --miss skip --period 64",
    "--in-flight 3 --lockstep 3 --slots 8 --cache lru",
)
FRAMES = ("--frames", 250, "--score-bits", 7)


def parts_of(fresh: Fresh) -> list[Part]:
    """Return all parts in the order in which they run."""
    return [
        *classifiers(fresh), *rules(fresh), dispatch_memory(fresh), ports(fresh), *peak_memory(fresh), dynamic_k(fresh),
        vision(fresh), *video(fresh),
        *language(fresh), training_loads(fresh), *expert_memory(fresh),
    ]  # fmt: skip


def call(*words: object) -> Call:
    """Return a command of `python -m collect`."""
    return Call(words)


def classifiers(fresh: Fresh) -> list[Part]:
    """Accuracy at every k, the traces of two classifiers, costs of batches, queues on real weights."""
    scale, images, logs = fresh.scale, fresh.images, fresh.set
    wide = ("--checkpoint", fresh.wide)
    epochs, jobs = ("--epochs", scale.quality_epochs), ("--jobs", scale.quality_jobs)
    quality = call("quality", *images, "--seeds", 3, *epochs, *jobs, "--models", fresh.models,
                   "--out", logs / "quality.csv")  # fmt: skip
    return [
        Part(f"quality: accuracy at every k, 3 seeds ({scale.name})", (quality,)),
        Part("route: which experts do the test images select?", (
            call("route", *images, "--checkpoint", fresh.base, "--out", logs / "base.trace.parquet"),
        )),
        Part("train, route: the wide model, whose blocks are executed", (
            call("train", *images, "--config", "wide", "--epochs", scale.wide_epochs, "--learning-rate", "1e-3",
                 "--out", fresh.wide),
            call("route", *images, *wide, "--out", logs / "wide.trace.parquet"),
        )),
        Part("costs: what does a batch of n cost, inside the executor's loop?", (
            call("costs", *images, *wide, "--repetitions", scale.cost_repetitions, "--out", logs / "costs.parquet"),
        )),
        Part("execute: queues of size B on real weights", (
            call("execute", *images, *wide, "--trace", logs / "wide.trace.parquet", "--costs", logs / "costs.parquet",
                 *scale.execute, "--out", logs / "executed"),
        )),
    ]  # fmt: skip


def rules(fresh: Fresh) -> list[Part]:
    """Traces under rules for K, and the same arrivals under each."""
    images, logs, chosen = fresh.images, fresh.set, ("--mean-k", "1.5,2,3")
    return [
        Part("rules: which experts run when the number per sample is chosen?", (
            call("rules", *images, "--checkpoint", fresh.base, "--name", "base", *chosen, "--rules", "top-p:0.3",
                 "--k", "1,2,8", "--out", logs / "rules"),
            call("rules", *images, "--checkpoint", fresh.wide, "--name", "wide", *chosen, "--k", "1,2,3,4",
                 "--out", logs / "rules"),
        )),
        Part("serve: the same arrivals under fixed and dynamic K, on real weights", (
            call("serve", Files(logs / "rules" / "wide-*.trace.parquet"), *images, "--checkpoint", fresh.wide,
                 "--costs", logs / "costs.parquet", *fresh.scale.serve, "--out", logs / "serving"),
        )),
    ]  # fmt: skip


def dispatch_memory(fresh: Fresh) -> Part:
    """Memory and time of both ways of dispatch."""
    asked = ("--checkpoint", fresh.base, *fresh.scale.memory, "--out", fresh.set / "memory.csv")
    said = "dispatch-memory: bytes and time of static capacity and dynamic dispatch"
    return Part(said, (call("dispatch-memory", *fresh.images, *asked),))


def ports(fresh: Fresh) -> Part:
    """Exchanges between devices: GPUs, or processes whose ports keep a pace."""
    out = fresh.logs / fresh.name / "cluster" / "ports.parquet"
    said = "ports: what do exchanges between devices take, from balanced to all-to-one?"
    asked = ("--device", fresh.device, "--repetitions", 3, "--out", out)
    return Part(said, (call("ports", *asked),))


def peak_memory(fresh: Fresh) -> list[Part]:
    """Orders of captured training iterations, where what searches them can run."""
    if not fresh.plans:
        return []
    steps = ("--device", fresh.device, *fresh.scale.peak_memory, "--out", fresh.logs / fresh.name / "training-steps")
    said = "peak-memory: what do training iterations need in the best order of their operations?"
    return [Part(said, (call("peak-memory", *steps),))]


def dynamic_k(fresh: Fresh) -> Part:
    """The study of K chosen per sample, at equal cost."""
    scale, points = fresh.scale, fresh.set / "dynamic_k.parquet"
    study = (*fresh.images, "--validation", scale.validation, "--models", fresh.models)
    epochs = ("--epochs", scale.family_epochs)
    family = ("--seeds", scale.family_seeds, *epochs)
    return Part(
        "family, operating-points, operating-times: does choosing K per sample beat a fixed K?",
        (
            call("family", *study, *family),
            call("operating-points", *study, *family, "--out", points),
            call("operating-times", *study, *epochs, "--points", points, "--out", fresh.set / "dynamic_k_times.csv"),
        ),
    )


def vision(fresh: Fresh) -> Part:
    """Vision transformers with dense, switch and random routing."""
    scale = fresh.scale
    looked = ("--data", fresh.data, "--device", fresh.device, *scale.vision_images, *fresh.source)
    looked += ("--variants", scale.vision)
    epochs, models = ("--epochs", scale.vision_epochs), ("--models", fresh.models)
    return Part(
        "vision-grid, vision-times: dense, switch and random routing, accuracy and time",
        (
            call("vision-grid", *looked, *scale.vision_model, *scale.vision_batch, "--seeds", 2, "--threshold", 25,
                 *epochs, "--jobs", 2, *models, "--out", fresh.set / "vision.csv"),
            call("vision-times", *looked, *scale.vision_batch, *epochs, *scale.vision_timed, *models,
                 "--out", fresh.set / "vision_times.csv"),
        ),
    )  # fmt: skip


def video(fresh: Fresh) -> list[Part]:
    """What a vision transformer selects in clips: static and moving say what the camera does, as their owner knows."""
    if fresh.data != "cifar10" or fresh.clips is None:
        return []
    watched = f"{fresh.data}-vit-{fresh.scale.seen}-seed0-epochs{fresh.scale.vision_epochs}.pt"
    return [
        Part(f"video: which experts do the frames of {clip.name} select?", (
            call("video", clip, "--camera", camera, *FRAMES, "--device", fresh.device, "--checkpoint",
                 fresh.models / watched, "--out", fresh.set / "video" / f"{clip.stem}.trace.parquet"),
        ))
        for camera in ("static", "moving")
        for clip in sorted((fresh.clips / "video" / camera).glob("[!.]*")) if clip.is_file()
    ]  # fmt: skip


def language(fresh: Fresh) -> list[Part]:
    """A language model, once per device, whatever the image data: its text is what this machine has."""
    scale, options = fresh.scale, ("--device", fresh.device, *fresh.source)
    recorded = {
        "prefill": ("--windows", scale.windows, "--candidates", 8),
        "decode": ("--requests", scale.requests, "--candidates", 8), "stepwise": ("--windows", 1, "--seed", 7),
    }  # fmt: skip
    model = ("--checkpoint", fresh.models / "language.pt")
    routes = tuple(
        call("language-route", *options, *model, "--phase", phase, *asked, "--score-bits", 7,
             "--out", fresh.traces[phase])
        for phase, asked in recorded.items()
    )  # fmt: skip
    quality = call("language-quality", *options, *model, "--segments", scale.segments,
                   "--out", fresh.text / "language.csv")  # fmt: skip
    trained = call("language", *options, *scale.language, "--out", fresh.models / "language.pt")
    dense = call("language", *options, *scale.dense_language, "--out", fresh.models / "language-dense.pt")
    said = "language: a byte-level MoE language model, its held-out bits per byte, prefill and decode traces"
    return [Part(said, (trained,), beside=(dense,)), Part("", routes, beside=(quality,))]


def training_loads(fresh: Fresh) -> Part:
    """Loads over training of two models, each with and without balance loss: one pair beside the other."""
    scale, device = fresh.scale, ("--device", fresh.device, *fresh.source)
    switch = ("--data", fresh.data, *device, *scale.vision_images, *scale.vision_model, *scale.vision_batch,
              "--variant", "switch", "--experts", 32)  # fmt: skip

    def pair(command: str, folder: Path, *words: object) -> tuple[Call, ...]:
        return tuple(
            call(command, *words, *balance, "--record-loads", folder / "training" / f"{name}.loads.parquet",
                 "--out", fresh.models / f"{folder.name}-{name}.pt")
            for name, balance in (("balanced", ()), ("unbalanced", ("--balance", 0)))
        )  # fmt: skip

    return Part(
        "language, vision: how does load move while a model trains, with and without balance loss?",
        pair("language", fresh.text, *device, *scale.text_loads),
        beside=pair("vision", fresh.set, *switch, *scale.vision_loads),
    )


def expert_memory(fresh: Fresh) -> list[Part]:
    """Costs and executions with expert slots, what masked gating loses, and plans that are measured."""
    costs, sizes = fresh.text / "memory-costs", ("--sizes", "1,2,3", "--repetitions", 5)
    timed = tuple(
        call("costs", *fresh.language, *sizes, *slots, "--out", costs / f"{way}.parquet") for way, slots in WAYS.items()
    )
    executed = tuple(
        call("execute", *fresh.language, "--trace", fresh.traces["stepwise"], "--costs", costs / "load.parquet",
             "--known", fresh.traces["prefill"], "--replications", 1, "--queue-size", 1, *asked.split(),
             "--out", fresh.text / "memory-executed")
        for asked in REMEMBERED
    )  # fmt: skip
    said = "expert memory: costs, executions with expert slots, quality of masked gating"
    return [Part(said, (*timed, *executed)), masked_quality(fresh), Part("", swap_plans(fresh))]


def masked_quality(fresh: Fresh) -> Part:
    """What redirecting and skipping cost, of the language model and, beside it, of the wide classifier."""
    spoken = (*fresh.language, *fresh.source, "--units", fresh.scale.masked_units)
    seen = (*fresh.images, "--checkpoint", fresh.wide, "--units", 10000)
    return Part(
        "",
        (
            call("skip-exchange", *spoken, "--out", fresh.text / "skip-exchange.csv"),
            call("swap-quality", *spoken, "--period", "1,4,16", "--dense", fresh.models / "language-dense.pt",
                 "--out", fresh.text / "swap-quality.csv"),
        ),
        beside=(
            call("skip-exchange", *seen, "--out", fresh.set / "skip-exchange.csv"),
            call("swap-quality", *seen, "--slots", "2,4,8,12", "--period", fresh.scale.seen_periods,
                 "--out", fresh.set / "swap-quality.csv"),
        ),
    )  # fmt: skip


def swap_plans(fresh: Fresh) -> tuple[Call, ...]:
    """A profile and, where `simulate plan` can run, plans from it.

    A plan is as good as its models where the profile has no neighbour: what first plans give is measured, and counts.
    A budget that no plan meets is refused and the others' plans are written, so a plan's file says whether it failed;
    one that is there is kept, for its plans were measured.
    """
    text, scale = fresh.text, fresh.scale
    measured = {name: text / f"swap-{name}.csv" for name in ("profile", "refined", "verified")}
    first, last = text / "swap-first-plans.csv", text / "swap-plans.csv"
    profiled = (
        *fresh.language, *fresh.source, "--trace", fresh.traces["stepwise"], "--known", fresh.traces["prefill"],
        "--costs", text / "memory-costs" / "masked.parquet",
    )  # fmt: skip
    budgets = ("--memory", scale.memory_budgets, "--pass-latency", "1s")
    checked = ("--units", scale.masked_units)
    profile = call("swap-profile", *profiled, "--configurations", scale.configurations, "--out", measured["profile"])
    if not fresh.plans:
        return (profile,)
    return (
        profile,
        Call(("plan", measured["profile"], *budgets, "--out", first), "simulate", first),
        call("swap-profile", *profiled, "--plans", first, *checked, "--out", measured["refined"]),
        Call(("plan", measured["profile"], measured["refined"], *budgets, "--out", last), "simulate", last),
        call("swap-profile", *profiled, "--plans", last, *checked, "--out", measured["verified"]),
    )
