"""From a slider of the live page to what it draws, at a million selections, without a browser.

    python -m pytest tests/benchmarks/test_live_page_speed.py -o addopts="" -s

World: L=24, E=64, K=4, 1,300 synthetic sequences of 32 tokens, 4 million selections, of which a quick answer simulates
one. Each move puts B elsewhere; its time ends when the ring of the plot has data anew. Aim: a median of at most 0.5 s
on two quiet cores. A slow machine fails nothing here; simulating less than a million selections does.
"""

import os
import queue
import time
from statistics import median

import pytest

pytest.importorskip("bokeh")
from bokeh.document import Document

from moe_replay.figures.live.answering_processes import AnsweringProcesses, Lanes
from moe_replay.figures.live.choice import Source
from moe_replay.figures.live.page import Page
from moe_replay.figures.live.page_inputs import read_inputs
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.new_traces import synthetic

MOVES = (1, 2, 4, 5, 16, 32, 64, 128, 3, 6, 12, 24, 48, 96, 192, 256)
AIM_S = 0.5


def test_a_slider_at_a_million_selections(tmp_path):
    save_trace(synthetic(sequences=1300, layers=24, experts=64, k=4), tmp_path / "large.trace.parquet")
    source = Source(tmp_path / "large.trace.parquet", affine="20000,1500", seeds=1)
    answers, times = queue.Queue(), []
    with AnsweringProcesses() as processes:
        page = Page(read_inputs(source, processes), Lanes(processes, answers.put))
        screen = page.settings
        page.put_into(Document())

        def pump(until):
            while not until():
                answers.get(timeout=600)()

        pump(lambda: len(screen.asking.history.points) >= 9 and not screen.current.quick)  # warm, and nothing else runs
        for size in MOVES:
            begun = time.perf_counter()
            screen.controls.queue_size.value = str(size)
            pump(lambda size=size: screen.current.choice.queue_size == size)
            times.append(time.perf_counter() - begun)
            part = screen.current.answers[0].part
            assert 0.99e6 <= part.selections <= 1e6
            assert part.of_selections > 3.9e6
    load = os.getloadavg()[0]
    print(f"\nslider to plot: median {median(times):.3f} s, worst {max(times):.3f} s, aim {AIM_S}; load {load:.1f}")
