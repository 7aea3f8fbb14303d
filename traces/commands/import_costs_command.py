"""`python -m traces import-costs`: what MoE layers take in serving frameworks on GPUs, as others measured it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from moe_replay.traces.command_line.command import Force, numbers
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.lookup import titles
from moe_replay.traces.served_layers.aiconfigurator import (
    DISTRIBUTION,
    LayerKind,
    chosen_kind,
    gpu_folder,
    kinds_of,
    served_times,
    tables_folder,
)
from moe_replay.traces.served_layers.model_config import layer_sizes
from moe_replay.traces.served_layers.served_times import LAYER, ServedTimes

LISTED = titles(("framework", "framework_version", "width", "hidden", "experts", "k", "dtype", "devices"))


@dataclass(frozen=True)
class LayerOptions:
    """Which of the measured layers: as many of these as leave one."""

    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|CONFIG.json", help="Sizes from a model's config, or as qwen3-30b-a3b by name."),
    ] = None
    width: Annotated[int | None, COUNT.option("--width", "--d-model", low=1, help="Of the model.")] = None
    hidden: Annotated[int | None, COUNT.option("--hidden", "--d-ff", low=1, help="Of an expert.")] = None
    experts: Annotated[int | None, COUNT.option(low=1, help="Of a layer.")] = None
    k: Annotated[int | None, COUNT.option(low=1, help="Experts per token.")] = None
    dtype: Annotated[str | None, typer.Option(help="Of the weights, as bfloat16, fp8_block, w4a16_mxfp4.")] = None

    def wanted(self, tables: Path) -> tuple[str | None, dict]:
        """Return (the model's name, sizes and type that are asked for); InputError for sizes that are not its own."""
        given = {name: value for name, value in vars(self).items() if name != "model"}
        if self.model is None:
            return None, given
        name, sizes = layer_sizes(tables, self.model)
        for each, value in sizes.items():
            if given[each] not in (None, value):
                raise InputError(f"--{each} is {given[each]}, and {value} in {self.model}; allowed: one of them")
        return name, given | sizes


@grouped
def import_costs_command(
    layer: LayerOptions,
    gpu: Annotated[str | None, typer.Option(help="As h200, b200, l40s, h100; without: which there are.")] = None,
    framework: Annotated[str | None, typer.Option(help="vllm, sglang, trtllm.")] = None,
    framework_version: Annotated[str | None, typer.Option(help="Default: the newest with that layer.")] = None,
    kernel: Annotated[str | None, typer.Option(help="Where a layer was measured with several.")] = None,
    devices: Annotated[str | None, typer.Option(help="Experts split over so many; with commas. Default all.")] = None,
    name: Annotated[str | None, typer.Option(help="What the table calls the model; default its name or sizes.")] = None,
    tables: Annotated[Path | None, typer.Option(help="Folder of the tables, where the package is not.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="TABLE.served.parquet", help="Without: show what there is.")
    ] = None,
    force: Force = False,
) -> None:
    """Import what whole MoE layers took on GPUs in vLLM, SGLang and TensorRT-LLM, from aiconfigurator-core's tables.

    Such a table knows a layer's time by tokens and devices, balanced or skewed, for `simulate skew`. It has no time of
    one expert: it is none for --costs.

    Example: `python -m traces import-costs --gpu h200 --framework vllm --model qwen3-30b-a3b --dtype bfloat16
    --out qwen3.served.parquet`
    """
    tables = tables_folder(tables)
    model, wanted = layer.wanted(tables)
    folder = gpu_folder(tables, gpu)
    kinds = kinds_of(folder, framework, framework_version)
    if out is None:
        show([each for each in kinds if each.is_like(wanted)], folder.name)
        return
    check_output(out, force=force)
    kind = chosen_kind(kinds, wanted)
    called = name or model or f"{kind.width}x{kind.hidden}-{kind.experts}x{kind.k}"
    found = served_times(folder, kind, kernel, numbers(devices, "--devices") if devices else None, called)
    found = replace(found, header=found.header | {"provenance": provenance()})
    with staged(out, force=force) as written:
        found.save(written)
    print(f"{out}: {summary(found)}")
    print(f"{found.header['measured']}; {found.header['source']}, {found.header['license']}")


def summary(found: ServedTimes) -> str:
    """Return what was imported, in words."""
    tokens = found.column("tokens")[found.column("part") == LAYER]
    several = found.header["means_of_several"]
    exchanged = sorted(set(found.column("kernel")[found.column("part") != LAYER].tolist()))
    words = [
        found.name, f"{', '.join(map(str, found.devices))} devices", f"{tokens.min()}..{tokens.max():,} tokens",
        ", ".join(found.spreads), f"exchanges: {', '.join(exchanged) or 'none was measured'}",
        *([f"{several} times were measured more than once: their means"] if several else []),
    ]  # fmt: skip
    return "; ".join(words)


def show(kinds: list[LayerKind], gpu: str) -> None:
    """Print the layers that were measured on a GPU."""
    table = Table(
        *LISTED.values(), title=f"MoE layers on {gpu}, {DISTRIBUTION}", title_justify="left", box=box.SIMPLE_HEAD
    )
    for kind in kinds:
        row = vars(kind) | {"devices": " ".join(map(str, kind.devices))}
        table.add_row(*(str(row[name]) for name in LISTED))
    print_table(table)
