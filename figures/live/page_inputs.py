"""What is read before the page is served, so that a file that is no good is refused at the start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from moe_replay.analysis.tables.lost_mass import Relation, read_relation
from moe_replay.figures.live import questions
from moe_replay.figures.live.answering_processes import QUICK, AnsweringProcesses
from moe_replay.figures.live.choice import Source
from moe_replay.simulate.answers.trace_facts import TraceFacts
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.errors import InputError

SHIPPED = Path(__file__).parents[1] / "shipped"  # tables of the shipped logs
EXECUTED, REPEATED = "fidelity", "fidelity_repeatability"
NEEDED = (
    "set",
    "run",
    "status",
    "identical",
    "executed_throughput",
    "simulated_throughput",
    "throughput_error_percent",
)


@dataclass(frozen=True)
class PageInputs:
    """Where everything comes from, what is known of the trace (and of the one beside it), and what was measured."""

    source: Source
    facts: TraceFacts
    beside: TraceFacts | None
    relation: Relation | None
    executed: pd.DataFrame
    repeated: pd.DataFrame

    @property
    def is_large(self) -> bool:
        """Whether the trace has more selections than a quick answer simulates."""
        return self.facts.selections > questions.QUICK

    @property
    def study(self) -> Study:
        """What processes open; a trace that has changed since the page began is refused, not mixed with the old one."""
        return replace(self.source.study(), digests={"trace": self.facts.digest})


def read_inputs(source: Source, processes: AnsweringProcesses) -> PageInputs:
    """Return what the page shows; InputError for a file that cannot be read.

    Traces are read by the process that will answer, which keeps them open.
    """
    study = source.study()
    facts = processes.submit(QUICK, questions.about, study, source.link.get("expert_bytes")).result()
    beside = None
    if source.beside is not None:
        beside = processes.submit(QUICK, questions.about, replace(study, trace=source.beside), None).result()
    relation = None if source.quality is None else read_relation(source.quality)
    folder = source.executed or SHIPPED
    return PageInputs(
        source, facts, beside, relation, table(folder, EXECUTED, NEEDED), table(folder, REPEATED, ("set",))
    )


def table(folder: Path, name: str, needed: tuple[str, ...]) -> pd.DataFrame:
    """Return a table of a folder; InputError where it is not there, or not what `analysis tables` wrote."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; allowed: a folder that `analysis tables` wrote, with {name}")
    try:
        found = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no table ({str(error)[:80]}); allowed: what `analysis tables` wrote") from None
    if missing := [column for column in needed if column not in found]:
        raise InputError(f"{path}: has no column {missing[0]}; allowed: what `analysis tables` wrote")
    return found
