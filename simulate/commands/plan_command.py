"""`python -m simulate plan`: slots of every layer within budgets of memory and latency."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from moe_replay.simulate.planning.measurements import read_profiles
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.distinct_names import told_apart
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import SIZE, time_in
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import header_digest
from moe_replay.traces.glossary.lookup import titles

if TYPE_CHECKING:
    from moe_replay.simulate.planning.fitted_models import Models
    from moe_replay.simulate.planning.search import Budget

PASSES = time_in("ms")
Profiles = Annotated[
    list[Path], typer.Argument(metavar="PROFILE...", help="Tables of `collect swap-profile`, used together.")
]
Out = Annotated[Path | None, typer.Option(help="Table of plans, CSV; OUT.json beside it.")]


@dataclass(frozen=True)
class BudgetOptions:
    """What a plan may take: every combination is a budget."""

    memory: Annotated[str, typer.Option(help="Budget: most bytes on the device, 24MB; several with commas.")]
    pass_latency: Annotated[str | None, typer.Option(help="Budget: mean time of a pass, 4.5ms; with commas.")] = None

    def budgets(self) -> list[Budget]:
        """Return the budgets; InputError for what is no list of numbers."""
        from moe_replay.simulate.planning.search import Budget

        latencies = PASSES.listed(self.pass_latency, "--pass-latency", 0) if self.pass_latency else [None]
        memories = SIZE.listed(self.memory, "--memory", 1)
        return [
            Budget(float(memory), None if latency is None else latency / 1e6)
            for memory in memories for latency in latencies
        ]  # fmt: skip


@grouped
def plan_command(profiles: Profiles, asked: BudgetOptions, out: Out = None, force: Force = False) -> None:
    """Which experts' slots should each layer get, and how often should residents change, within a budget?

    Fits models of quality, latency and memory to the profile and searches them twice: exactly, by dynamic programming,
    and by the paper's genetic algorithm; the best plan that gives all layers the same is shown beside them. `collect
    swap-profile --plans` measures what plans really give; its table is a profile again, and makes the next plan better.

    Example: `python -m simulate plan profile.csv --memory 30MB --pass-latency 4ms`
    """
    from moe_replay.simulate.planning.fitted_models import errors, fit  # imports scipy, which others do not need
    from moe_replay.simulate.planning.plan_rows import plan_rows

    check_output(out, profiles, force)
    profile = read_profiles(profiles)
    models = fit(profile)
    off = errors(profile, models)
    rows, refused = plan_rows(models, profile.layers, asked.budgets())
    if rows:
        show(rows)
    print("left out, predicted: median error of loss {loss:.3f}, latency {latency_ms:.3f} ms, memory "
          "{memory_bytes:.0f} bytes".format(**off))  # fmt: skip
    if out is not None and rows:
        about = {
            "profiles": [*told_apart(profiles)], "configurations": len(profile.loss_N), "errors": off,
            "loss_model": described(models), "refused": refused, "provenance": provenance(),
            "digest": header_digest({"slots": profile.slots_NL.tolist(), "loss": profile.loss_N.tolist()}),
        }  # fmt: skip
        with staged(out, profiles, force) as written:
            write_rows(written, rows)
            write_json(written.with_suffix(".json"), about)
    if refused:
        raise InputError("; ".join(refused))


def described(models: Models) -> dict:
    """Return the fitted model of quality as JSON holds it."""
    quality = models.quality
    return {
        "powers": quality.powers, "gamma": quality.gamma, "weights": quality.weights_LP.tolist(),
        "scale": {str(period): value for period, value in quality.scale.items()},
    }  # fmt: skip


def show(rows: list[dict]) -> None:
    """Print the plans, the best of a budget first."""
    table = Table(*titles(rows[0]).values(), box=None)
    for row in rows:
        latency = "any" if row["latency_budget"] is None else f"{row['latency_budget']:g} ms"
        table.add_row(
            f"{row['memory_budget']:,.0f}", latency, row["search"], row["slots"], str(row["period"] or "stay"),
            f"{row['predicted_loss']:.4f}", f"{row['predicted_latency_ms']:.3f}",
            f"{row['predicted_memory_bytes']:,.0f}", f"{row['seconds']:.2f} s",
        )  # fmt: skip
    print_table(table)
