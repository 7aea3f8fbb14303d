"""The figures of several devices: what is drawn is what the tables say, the published points among them."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one


def panels(folder, name):
    return [axes for axes in draw_one(name, TableFiles(folder)).findobj(Axes) if axes.get_title(loc="left")]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("balance", "from 1.80 to 1.20 times the mean (CIFAR-10: classifier)"),
        ("placement", "has 1.50 times the mean load, in order 2.00 (toy-moe, no balance loss)"),
        ("all_to_all", "off in the mean by 3.8 % (paced ports), 50 % (loopback, not paced)"),
        ("end_to_end", "takes 2.20 ms in order, 1.60 ms in the best placement, 1.50 ms with 8 replicas"),
        ("peak_memory", "needs 20 % less memory than eager in the median (9 to 33 %; cpu-toy/cifar10)"),
    ],
)
def test_titles_say_the_claim_with_its_number(name, numbers, tables):
    claims = json.loads((tables / "claims.json").read_text())
    claims["end_to_end"]["numbers"] = {"a cluster": {
        "hottest": 1.7, "in_order_ms": 2.2, "whole_ms": 1.6, "replicas_ms": 1.5, "redundant": 8, "replicas_change": 1.2,
        "parts_change": 1.9,
    }}  # fmt: skip
    claims["peak_memory"]["numbers"] = {"cpu-toy/cifar10": {
        "median_below_eager_percent": 20.4, "least_below_eager_percent": 8.8, "most_below_eager_percent": 32.7,
    }}  # fmt: skip
    (tables / "claims.json").write_text(json.dumps(claims))
    title = " ".join(draw_one(name, TableFiles(tables)).get_suptitle().split())
    assert numbers in title


def test_every_planner_has_a_row_and_replicas_are_open(tables):
    (cifar, digits) = panels(tables, "balance")
    assert cifar.get_title(loc="left") == "CIFAR-10: classifier\n1.80 in order, 1.20 greedy"
    points = [line for line in cifar.lines if line.get_marker() in ("o", "s")]
    np.testing.assert_allclose([line.get_xdata()[0] for line in points], [1.8, 1.2, 1.9, 1.25, 1.2, 1.12])
    assert [line.get_markerfacecolor() == "white" for line in points] == [False] * 5 + [True]
    assert [text.get_text() for text in cifar.get_yticklabels()][-1] == "EPLB +8"
    assert digits.get_title(loc="left").startswith("digits: classifier")


def test_two_devices_with_the_same_data_are_told_apart(tables):
    path = tables / "balance.csv"
    table = pd.read_csv(path)
    table.replace({"set": {"cpu-toy/digits": "gpu-toy/cifar10"}}).to_csv(path, index=False)
    titles = [axes.get_title(loc="left").partition("\n")[0] for axes in panels(tables, "balance")]
    assert titles == ["cpu-toy/cifar10: classifier", "gpu-toy/cifar10: classifier"]


def test_static_against_adaptive_over_iterations_layers_and_intervals(tables):
    (over, layers, intervals) = panels(tables, "placement")
    assert over.get_title(loc="left") == "toy-moe,\nno balance loss: 2.00 becomes 1.50"
    assert [set(line.get_ydata()) for line in over.lines] == [{2.0}, {1.5}]
    assert len([line for line in layers.lines if line.get_marker() in "os" and len(line.get_xdata()) == 3]) == 4
    assert intervals.get_title(loc="left") == "Every 50 iterations: 10 % of\nthe gain, 10 % of the moves"
    assert len(intervals.lines) == 2 * 2
    assert {text.get_text() for text in intervals.texts} >= {"5", "50", "no balance loss", "with balance loss"}


def test_published_points_are_drawn_where_they_are(tmp_path):
    fit = {"published_setting": "8-4", "devices": 8, "predictor": "calibrated", "mape_percent": 2.1, "r2": 0.968}
    search = {"published_setting": "freq10", "every_points": 1, "predicted_speed_up": 1.466, "measured_speed_up": 1.461}
    points = [
        {"published_setting": setting, "placement": placement, "iteration": at, "half": half, "measured_ms": at + 10,
         "calibrated_ms": at + 11}
        for setting, placements in (("8-4", ["contiguous"]), ("freq10", ["contiguous", "smartmoe"]))
        for placement in placements for at, half in ((1, 1), (2, 2), (3, 2))
    ]  # fmt: skip
    for name, rows in (("published", [fit]), ("search", [search]), ("published_points", points)):
        pd.DataFrame(rows).to_csv(tmp_path / f"placement_{name}.csv", index=False)
    (tmp_path / "claims.json").write_text(json.dumps({"placement": {"claim": "A line.", "numbers": {}}}))
    layer, search = panels(tmp_path, "placement")
    assert layer.get_title(loc="left") == "8 GPUs, micro-batch 4:\n2.1 % off, R² 0.968"
    assert layer.lines[0].get_xdata().tolist() == [12, 13]  # the half that was not fitted
    assert search.get_title(loc="left").endswith("1.46× measured, 1.47× predicted")


def test_a_panel_per_way_and_a_look_per_number_of_devices(tables):
    paced, loopback = panels(tables, "all_to_all")
    assert [axes.get_title(loc="left") for axes in (paced, loopback)] == ["paced ports", "loopback, not paced"]
    labels = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (paced, loopback)]
    assert labels[0] == ["2 devices: 3.8 % off", "4 devices: 3.8 % off"]
    assert labels[1] == ["2 devices: 50 % off", "4 devices: 50 % off"]
    identity, two, *_ = [line for line in paced.lines if len(line.get_xdata()) > 1]
    assert identity.get_xdata().tolist() == identity.get_ydata().tolist()
    np.testing.assert_allclose(two.get_xdata().astype(float), [20.8, 41.6, 62.4])
    assert two.get_ydata().tolist() == [20, 40, 60]
    (ranges, _) = (each for each in paced.collections if hasattr(each, "get_segments"))
    np.testing.assert_allclose(ranges.get_segments()[0], [[20, 20], [60, 20]])
    assert paced.get_xscale() == paced.get_yscale() == "log"


def test_sets_are_told_apart_and_what_is_missing_is_named(tables):
    path = tables / "all_to_all.csv"
    rows = pd.read_csv(path)
    pd.concat([rows, rows.assign(set="gpu-toy/cluster", way="nccl")]).to_csv(path, index=False)
    summary = pd.read_csv(tables / "all_to_all_summary.csv")
    pd.concat([summary, summary.assign(set="gpu-toy/cluster", way="nccl")]).drop_duplicates(
        ["set", "way", "devices"]
    ).to_csv(tables / "all_to_all_summary.csv", index=False)
    titles = [axes.get_title(loc="left") for axes in panels(tables, "all_to_all")]
    assert len(titles) == 3
    assert titles[-1] == "gpu-toy/cluster\nNCCL"
    hole = {"set": "cpu-toy/cluster", "status": "missing", "reason": "all-to-all.parquet: no such file"}
    pd.DataFrame([hole]).to_csv(path, index=False)
    figure = draw_one("all_to_all", TableFiles(tables))
    assert "no such file" in " ".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_steps_are_bars_whose_parts_add_up_and_published_ratios_are_open(tables):
    *steps, ratios = panels(tables, "end_to_end")
    assert [axes.get_title(loc="left") for axes in steps] == [
        f"{trace}\n{cluster}" for cluster, shown in (("nvlink, 1 node", 3), ("ethernet, 2 nodes", 2))
        for trace in ("decode, 64 tokens", "prefill, 2,048 tokens", "training, 8,192 tokens")[:shown]
    ]  # fmt: skip
    for axes, slower in zip(steps, (1, 1, 1, 3, 3), strict=True):
        ends = {}
        for bar in axes.patches:
            at = round(bar.get_y() + bar.get_height() / 2, 1)
            ends[at] = max(ends.get(at, 0), bar.get_x() + bar.get_width())
        wanted = [slower * ms * parts for ms in (2.0, 1.8, 1.6, 2.4) for parts in (1, 2)]
        np.testing.assert_allclose([ends[at] for at in sorted(ends)], wanted)
        assert {f"{value:.2f}" for value in wanted} <= {text.get_text() for text in axes.texts}
    assert [text.get_text() for text in steps[0].get_yticklabels()] == [
        "in order", "heaviest first", "SmartMoE, adaptive", "EPLB +8",
    ]  # fmt: skip
    drawn = [(line.get_xdata(), line.get_markerfacecolor()) for line in ratios.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(np.concatenate([xs for xs, _ in drawn]), [0.7, 2.0, 1.1, *[1.25] * 6])
    assert [inside == "white" for _, inside in drawn] == [True, True, False, False, False]


def test_a_kind_of_trace_that_was_not_timed_is_said(tables):
    table = pd.read_csv(tables / "end_to_end.csv")
    table[table["trace"] == "training"].to_csv(tables / "end_to_end.csv", index=False)
    figure = draw_one("end_to_end", TableFiles(tables))
    said = [text.get_text().replace("\n", " ") for axes in figure.findobj(Axes) for text in axes.texts]
    assert "no steps of decode were timed" in said
    assert "no steps of prefill were timed" in said
