"""The command `video`: which experts do the patches of a clip's frames select?"""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from moe_replay.collect.commands.app import Checkpoint, Force, ScoreBits, TorchOptions, app
from moe_replay.collect.datasets.clips import read_clip
from moe_replay.collect.recording.clip_recording import record_clip
from moe_replay.collect.recording.score_rounding import FULL_PRECISION
from moe_replay.collect.training.vision_training import restore_vision
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import is_made
from moe_replay.traces.command_line.units import COUNT


@app.command("video")
@grouped
def video_command(
    clip: Annotated[Path, typer.Argument(help="A video file.")],
    machine: TorchOptions,
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Trace to write.")],
    camera: Annotated[str, typer.Option(help="What the camera does, static or moving: the trace's domain.")],
    every: Annotated[int, COUNT.option(low=1, help="Take every so many-th frame.")] = 1,
    frames: Annotated[int | None, COUNT.option(low=2, help="At most so many frames.")] = None,
    batch: Annotated[int, COUNT.option(low=1, help="Frames per forward call.")] = 64,
    score_bits: ScoreBits = FULL_PRECISION,
    force: Force = False,
) -> None:
    """Record a clip, frame after frame, through a switch transformer of `python -m collect vision`.

    Example: `python -m collect video vtest.avi --checkpoint switch.pt --camera static --out vtest.trace.parquet`
    """
    if is_made(out, [clip, checkpoint], force):
        return
    model, description = restore_vision(checkpoint)
    model = model.to(machine.pick())
    taken = read_clip(clip, model.shape, every, frames)
    with Progress(transient=True) as progress:
        task = progress.add_task("recording", total=len(taken.frames_NF))
        record_clip(model, description, taken, camera, score_bits, batch, out, lambda n: progress.advance(task, n))
    print(f"{out}: {len(taken.frames_NF)} frames of {taken.name}")
