"""Figures of expert memory: every series is there, and what broke its budget is marked."""

import pandas as pd
from test_figures_command import panels_titled, words_of

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one


def test_broken_budgets_are_marked_and_kept_ones_are_not(tables):
    figure = draw_one("swap_budget", TableFiles(tables))
    memory, latency = (panels_titled(figure, title)[0] for title in ("memory (dotted", "latency (ring"))
    assert "budget broken" not in words_of(memory)
    (marked,) = [line for line in latency.lines if line.get_label() == "budget broken"]
    assert len(marked.get_xdata()) == 2 * 3  # both memories, three searches, under 3 ms


def test_execution_and_simulation_stand_on_the_same_axes(tables):
    figure = draw_one("swap_tradeoff", TableFiles(tables))
    axes = panels_titled(figure, "cpu-toy/cifar10: latency at batch 1")[0]
    words = words_of(figure)
    for label in ("on demand, overlapped", "masked, chosen anew", "all experts resident", "simulated"):
        assert label in words
    assert len([line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata()) == 2]) == 4


def test_lifo_stands_beside_lru_step_by_step(tables):
    axes = panels_titled(draw_one("miss_ratio_supplement", TableFiles(tables)), "")[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert "LIFO (Huang et al.)" in lines
    assert (lines["LRU"] == 0).all()


def test_sets_without_a_quality_show_their_latencies(tables):
    rows = pd.read_csv(tables / "swap_latency.csv")
    pd.concat([rows, rows.assign(set="gpu-toy/tiny")]).to_csv(tables / "swap_latency.csv", index=False)
    figure = draw_one("swap_tradeoff", TableFiles(tables))
    (alone,) = panels_titled(figure, "gpu-toy/tiny: latency at batch 1, executed")
    assert "masked, chosen anew" in [line.get_label() for line in alone.containers]
    assert len(panels_titled(figure, "cpu-toy/cifar10: latency at batch 1")) == 1
