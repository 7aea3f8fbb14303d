"""Runs with expert slots as one result: what each policy loses beside all experts resident, and why."""

from pathlib import Path

import pandas as pd

from moe_replay.analysis.reading.configurations import differing
from moe_replay.analysis.results.result import MEMORY, Result, counted, described, percent, plain
from moe_replay.analysis.results.runs_result import FIRST_RESULT, input_doubts
from moe_replay.analysis.tables.memory_causes import RESIDENT, RUN, memory_table, remarks, settings_said

TOLD_APART = ("cache", "slots", "miss", "prefetch")


def read_memory(path: Path, name: str, made: dict, header: dict) -> Result:
    """Return the memory study in a folder of records; InputError where no run has expert slots."""
    return memory_result(memory_table(path), name, made, tuple(input_doubts(header)))


def memory_result(table: pd.DataFrame, name: str, made: dict, doubts: tuple[str, ...] = ()) -> Result:
    """Return a table of `analysis memory` as a result."""
    settings = table[list(table.columns[: table.columns.get_loc(FIRST_RESULT)])]
    settings = settings.astype(object).where(settings.notna(), None)
    axes = tuple(each for each in differing(settings) if each not in ("world", "known"))
    shared = settings_said(table.assign(**settings))
    said = [*remarks(table), *known_doubts(table), *world_doubts(table), *doubts]
    return Result(
        MEMORY, name, table, axes=axes, made=made,
        findings=(*findings(table, axes), *([f"{shared.capitalize()}."] if shared else [])),
        doubts=tuple(f"{line[0].upper()}{line[1:].rstrip('.')}." for line in said),
    )  # fmt: skip


def findings(table: pd.DataFrame, axes: tuple[str, ...]) -> list[str]:
    """Return what slots cost: of the runs the fastest, the slowest, and the time of all experts resident."""
    runs = table[table["world"] == RUN]
    said = [f"{counted(len(runs), 'memory setting')} beside {counted(int((table['world'] == RESIDENT).sum()), 'run')} "
            "with all experts resident."]  # fmt: skip
    measured = runs[runs["slowdown"].notna()]
    for word, place in (("Least", "idxmin"), ("Most", "idxmax")):
        if measured.empty or (word == "Most" and len(measured) == 1):
            continue
        row = measured.loc[getattr(measured["slowdown"], place)()].to_dict()
        said.append(
            f"{word} time lost: {percent(row['slowdown'] - 1)} more than with all experts resident "
            f"({described(row, axes or TOLD_APART)}; {plain(row['tokens_per_s'])} tokens/s, hit ratio "
            f"{plain(row['hit_ratio'])})."
        )
    return said


def known_doubts(table: pd.DataFrame) -> list[str]:
    """Return which policies knew what no server knows."""
    knowing = table[(table["world"] == RUN) & (table["known"] == "hindsight")] if "known" in table else table.iloc[:0]
    caches = sorted(set(map(str, knowing["cache"]))) if len(knowing) else []
    return [f"{', '.join(caches)} knew the selections beforehand (hindsight): a bound, no policy to use"] * bool(caches)


def world_doubts(table: pd.DataFrame) -> list[str]:
    """Return that causes cannot be told where the worlds that explain them were not simulated."""
    lacking = table["capacity_ms"].isna().all() if "capacity_ms" in table else True
    said = "why time is lost is not told: `simulate memory` without --no-explain simulates what explains it"
    return [said] if lacking else []
