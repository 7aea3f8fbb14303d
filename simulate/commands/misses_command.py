"""`python -m simulate misses`: how often experts are absent, without time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from moe_replay.simulate.commands import options
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.memory.expert_worth import known_from
from moe_replay.simulate.policies.memory.knowledge_source import Lesson, file_of, lesson_of
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.traces.command_line.command import Force, numbers
from moe_replay.traces.command_line.distinct_names import told_apart
from moe_replay.traces.command_line.files import sha256_of, write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.describe import default_k
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.glossary.lookup import titles
from moe_replay.traces.routes import uncomputed

if TYPE_CHECKING:
    from moe_replay.simulate.misses.miss_tables import MissPlan
    from moe_replay.traces.selections import Trace

PRINTED = titles(("policy", "slots", "known", "misses", "miss_ratio", "transfers"))
OF_PREFETCHERS = titles(("prefetcher", "prefetches", "prefetches_used"))
Out = Annotated[
    Path | None, typer.Option(metavar="TABLE.csv", help="Write every row; TABLE.json beside it says how it came.")
]


@dataclass(frozen=True)
class CountOptions:
    """What is counted: the caches, and how they are asked."""

    cache: options.CacheNames = "lru,belady"
    slots: Annotated[str, typer.Option(help="Expert slots of each cache; several with commas, or `all`.")] = "all"
    mode: Annotated[str, typer.Option(help="group: a layer's experts together; flat: each selection alone.")] = "group"
    scope: options.Scope = "layer"
    prefetch: Annotated[str, typer.Option(help=f"Group mode: {PREFETCHERS.choices}; with commas.")] = "none"
    look_ahead: options.LookAhead = 1
    group: Annotated[str, typer.Option(help="Group mode: what runs together in a layer, pass or step.")] = "pass"
    emptied: options.Emptied = "never"
    filled: options.Filled = False
    k: Annotated[int | None, typer.Option(help="Count the first k selections; default: the model's k.")] = None
    seed: Annotated[int, COUNT.option(low=0, help="Seed of the random policy.")] = 0

    def plan(self, trace: Trace) -> MissPlan:
        """Return the plan for a trace; InputError for what cannot be."""
        from moe_replay.simulate.misses.miss_tables import MissPlan  # imports numba, which others do not need

        return MissPlan(
            policies=tuple(self.cache.split(",")), slots=numbers_of_slots(self.slots), mode=self.mode,
            scope=self.scope, prefetchers=tuple(self.prefetch.split(",")), look_ahead=self.look_ahead,
            grouping=self.group, emptied=self.emptied, filled=self.filled,
            k=default_k(trace) if self.k is None else self.k, seed=self.seed,
        )  # fmt: skip


@grouped
def misses_command(
    trace_path: options.TracePath, counts: CountOptions, out: Out = None, known: options.Known = None,
    force: Force = False,
) -> None:  # fmt: skip
    """Count the misses of expert caches without time: policies by numbers of slots.

    Example: `python -m simulate misses wide.trace.parquet --cache lru,lfu,belady --slots 4,8 --out misses.csv`
    """
    if out is not None and out.suffix != ".csv":
        raise InputError(f"--out: {out.name!r} is not allowed; allowed: a name that ends in .csv")
    inputs = [trace_path, file_of(known)]
    check_output(out, inputs, force)
    trace = load_trace(trace_path)
    plan = counts.plan(trace)
    lesson = lesson_of(trace, known, plan.needs())
    rows = counted_rows(trace, plan, lesson)
    if out is not None:
        files = told_apart(path for path in inputs if path is not None)
        digests = dict(zip(files, (trace.digest, lesson.trace.digest), strict=False))  # one where both are one file
        with staged(out, inputs, force) as written:
            write_table(written, rows, digests | plan.own_rules, plan.seed, lesson.said)
    print_table(printed(rows))
    for said in uncomputed(trace, plan.k):
        print(f"no access: {said}")
    for said in (how_counted(rows[0]), lesson.said, no_bound(rows, plan.k)):
        if said:
            print(said)
    print(f"{rows[0]['accesses']:,} accesses" + (f"; {out}: {len(rows)} rows" if out else ""))


def counted_rows(trace: Trace, plan: MissPlan, lesson: Lesson) -> list[dict]:
    """Return the rows of a plan; a bar says how far they are."""
    from moe_replay.simulate.misses.miss_tables import miss_rows, tasks  # imports numba, which others do not need
    from moe_replay.simulate.sweeps.run_folder import progress_bar

    knowledge, counted = known_from(lesson.trace, plan.k, plan.needs(), lesson.mark), lesson.counted(trace)
    total = tasks(plan, knowledge)  # refuses what cannot be before a bar is drawn
    with progress_bar() as progress:
        bar = progress.add_task("counting", total=total)
        return miss_rows(counted, plan, knowledge, lambda: progress.advance(bar))


def numbers_of_slots(text: str) -> tuple[int, ...]:
    """Return the numbers of slots of an option, none for `all`."""
    return () if text == "all" else tuple(numbers(text, "--slots"))


def how_counted(row: dict) -> str:
    """Return in words how the rows of a table were counted."""
    groups = {"selection": "every selection for itself", "pass": "a layer's experts of a pass together",
              "step": "a layer's experts of a step together"}  # fmt: skip
    emptied = {"never": "never emptied", "sequence": "emptied before every sequence"}[row["emptied"]]
    full = "full of the most popular experts at first, " if row["filled"] else ""
    return f"mode {row['mode']}: {groups[row['grouping']]}; slots {full}{emptied}"


def no_bound(rows: list[dict], k: int) -> str:
    """Return the warning that Belady's optimum is no bound of this table; empty where it is, or was not asked for."""
    policies = {row["policy"] for row in rows}
    if "belady" not in policies or "belady-bypass" in policies:
        return ""
    declining = [name for name in policies if CACHES[name].bypasses]
    few = min(row["slots"] for row in rows) <= k
    if not declining and not few:
        return ""
    whom = " and ".join([*sorted(declining), *([f"an engine of up to {k} slots"] if few else [])])
    return f"belady keeps what it loads: it is no bound for {whom}; --cache belady-bypass is"


def write_table(path: Path, rows: list[dict], inputs: dict[str, str], seed: int, said: str) -> None:
    """Write the rows as CSV, and beside it what they were made from and how."""
    write_rows(path, rows)
    about = {"table": path.stem, "rows": len(rows), "sha256": sha256_of(path), "inputs": inputs, "known": said}
    write_json(path.with_suffix(".json"), about | {"provenance": provenance(seed)})


def printed(rows: list[dict]) -> Table:
    """Return the rows over all layers for the terminal; what prefetchers did only where there are any."""
    titles = PRINTED | (OF_PREFETCHERS if any(row["prefetcher"] != "none" for row in rows) else {})
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, title in titles.items():
        table.add_column(title, justify="left" if name in ("policy", "known", "prefetcher") else "right", no_wrap=True)
    for row in rows:
        if row["layer"] == "all":
            shown = row | {"miss_ratio": f"{row['miss_ratio']:.4f}" if row["accesses"] else "-"}
            table.add_row(*(str(shown[name]) for name in titles))
    return table
