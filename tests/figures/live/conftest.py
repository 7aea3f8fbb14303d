"""A toy trace, and a page without a browser: real processes answer, and what they say is brought to the page here."""

import contextlib
import queue
import shlex
import time
from pathlib import Path

import pandas as pd
import pytest
from bokeh.document import Document

from moe_replay.figures.live.answering_processes import AnsweringProcesses, Lanes
from moe_replay.figures.live.choice import Source
from moe_replay.figures.live.page import Page
from moe_replay.figures.live.page_inputs import read_inputs
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.new_traces import synthetic

AFFINE = "200000,20000"
LONGEST_S = 240  # where the engine is compiled first


class OpenPage:
    """A page in a document of its own; `pump` lets answers come until something is so."""

    def __init__(self, source, processes):
        self.answers, self.document = queue.Queue(), Document()
        self.page = Page(read_inputs(source, processes), Lanes(processes, self.answers.put))

    def begin(self):
        self.page.put_into(self.document)
        return self

    def pump(self, until):
        end = time.monotonic() + LONGEST_S
        while not until():
            left = end - time.monotonic()
            assert left > 0, "the page does not come to what is waited for"
            with contextlib.suppress(queue.Empty):
                self.answers.get(timeout=min(left, 0.5))()


@pytest.fixture(scope="session")
def processes():
    with AnsweringProcesses() as found:
        yield found


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The path of a trace of 60 sequences."""
    path = tmp_path_factory.mktemp("live") / "toy.trace.parquet"
    save_trace(synthetic(sequences=60, layers=3, experts=8, k=2, seed=1), path)
    return path


@pytest.fixture(scope="session")
def prompts(tmp_path_factory):
    """The path of the trace of README.md's second recipe."""
    path = tmp_path_factory.mktemp("live") / "prompts.trace.parquet"
    sizes = {"sequences": 4000, "layers": 4, "experts": 16, "k": 2}
    save_trace(synthetic(**sizes, prompt=1, decode=0, seed=1), path)
    return path


@pytest.fixture
def opened_page(processes, toy):
    """Return a function (Source fields) -> OpenPage."""

    def open_it(trace=toy, affine=AFFINE, link=None, **fields):
        link = {"expert_bytes": 4_000_000} if link is None else link
        return OpenPage(Source(trace, affine=affine, link=link, **fields), processes).begin()

    return open_it


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Return a function (commands as the page shows them) -> the row of the table that the last of them writes."""
    monkeypatch.chdir(tmp_path)

    def run(text):
        from moe_replay.analysis.__main__ import app as analysis
        from moe_replay.simulate.__main__ import app as simulate

        for line in text.splitlines():
            python, _, stage, *words = shlex.split(line)
            assert python == "python"
            assert status_of({"simulate": simulate, "analysis": analysis}[stage], stage, words) == 0, line
        written = Path(words[-1])
        return pd.read_csv(written).iloc[0] if written.suffix == ".csv" else capsys.readouterr().out

    return run
