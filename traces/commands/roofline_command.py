"""`python -m traces roofline`: a cost table where nothing was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, SHARE
from moe_replay.traces.errors import unknown_name
from moe_replay.traces.rooflines.expert_roofline import ExpertShape, roofline_table
from moe_replay.traces.rooflines.gpu_peaks import BYTES, GPUS


def roofline_command(
    gpu: Annotated[str, typer.Option(help=f"{', '.join(GPUS)}.")],
    width: Annotated[int, COUNT.option("--width", "--d-model", low=1, help="Of the model.")],
    hidden: Annotated[int, COUNT.option("--hidden", "--d-ff", low=1, help="Of an expert: gate, up and down.")],
    experts: Annotated[int, COUNT.option(low=1, help="Of a layer: what its router chooses from.")],
    k: Annotated[int, COUNT.option(low=1, help="Experts per token.")],
    out: Annotated[Path, typer.Option(metavar="TABLE.parquet", help="Cost table, for --costs.")],
    dtype: Annotated[str, typer.Option(help=f"{', '.join(BYTES)}.")] = "bfloat16",
    most_tokens: Annotated[int, COUNT.option(low=2, help="Largest batch.")] = 65_536,
    reached: Annotated[float, SHARE.option(low=0.01, high=1, help="Share of both peaks that kernels reach.")] = 1.0,
    force: Force = False,
) -> None:
    """Estimate what batches of an expert cost on a GPU from its published peak rates: an estimate, not a measurement.

    No kernel is faster: the larger of operations at peak rate and bytes at full bandwidth. `--reached` slows both.

    Example: `python -m traces roofline --gpu h100 --width 2048 --hidden 768 --experts 128 --k 8 --out h100.parquet`
    """
    if dtype not in BYTES:
        raise unknown_name("type", dtype, tuple(BYTES))
    check_output(out, force=force)
    table = roofline_table(ExpertShape(width, hidden, dtype, experts, k), gpu, most_tokens, reached)
    table = replace(table, header={**table.header, "provenance": provenance()})
    with staged(out, force=force) as written:
        table.save(written)
    tokens, ns = table.curve(0, 1)
    knee = "always" if len(tokens) < 3 else f"up to {tokens[1]:,} tokens"
    print(f"{out}: {table.header['measured']}")
    last = f"{ns[-1] / 1e3:,.4g} us for {tokens[-1]:,}"
    print(f"an expert: {ns[0] / 1e3:.3g} us for a token; bound by memory {knee}; {last}")
