"""The page as a whole: what a slider does to what is drawn, and that commands give the very same numbers."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from bokeh.models import Slider

from moe_replay.analysis.tables.swap_tradeoff import QUALITY_COLUMNS
from moe_replay.figures.live.page_style import number
from moe_replay.figures.live.point_plot import GAIN
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.new_traces import synthetic

SEEDS = 2


def plotted(screen, name):
    """The row of the plotted points with this name."""
    data = screen.plot.points.data
    place = data["name"].index(name)
    return {column: values[place] for column, values in data.items()}


def equal(row, command):
    """Whether a plotted point is the row of a command's table."""
    assert row["gain"] == pytest.approx(command[GAIN], rel=1e-8)
    assert row["cost"] == pytest.approx(command["latency_p95_ms"], rel=1e-8)


def is_exact(screen):
    """Whether the exact answer to what the sliders say has come."""
    return screen.current is not None and screen.current.choice == screen.controls.choice and not screen.current.quick


@pytest.fixture
def settings(opened_page):
    """An open page of few seeds, and its first screen."""
    opened = opened_page(seeds=SEEDS)
    screen = opened.page.settings
    opened.pump(lambda: screen.current is not None and not screen.current.quick)
    return opened, screen


def test_a_slider_moves_the_ring_and_the_command_gives_its_numbers(settings, told):
    opened, screen = settings
    before = dict(screen.plot.current.data)
    screen.controls.queue_size.value = "32"
    opened.pump(lambda: screen.current.choice.queue_size == 32)
    assert screen.plot.current.data != before
    row, quick = plotted(screen, "B=32"), told(screen.command.text)
    assert "--replications 1" in screen.command.text
    equal(row, quick)
    # Let go: the exact answer, with the interval of its seeds.
    screen.controls.queue_size.trigger("value_throttled", "8", "32")
    opened.pump(lambda: not screen.current.quick)
    row, exact = plotted(screen, "B=32"), told(screen.command.text)
    equal(row, exact)
    assert f"--replications {SEEDS}" in screen.command.text
    for end in ("low", "high"):
        assert row[f"gain_{end}"] == pytest.approx(exact[f"{GAIN}_{end}"], rel=1e-8)
        assert row[f"cost_{end}"] == pytest.approx(exact[f"latency_p95_ms_{end}"], rel=1e-8)
    assert (row["kind"], exact["replications"]) == ("exact", SEEDS)


def test_two_windows_ask_for_themselves(opened_page):
    first, second = (opened_page(seeds=1) for _ in range(2))
    for window in (first, second):
        window.pump(lambda screen=window.page.settings: screen.current is not None and not screen.current.quick)
    before = dict(second.page.settings.plot.current.data)
    first.page.settings.controls.queue_size.value = "64"
    first.pump(lambda: first.page.settings.current.choice.queue_size == 64)
    assert second.page.settings.plot.current.data == before
    assert second.page.settings.controls.queue_size.value == "8"


@pytest.mark.parametrize(
    "moves",
    [{"scheduler": "lockstep"}, {"arrivals": "poisson"}, {"k": 1}, {"devices": 2}, {"cache": "lru", "slots": 3},
     {"cache": "static", "slots": 5}, {"cache": "belady", "slots": 4, "prefetch": "co-activation"},
     {"cache": "lru", "slots": 4, "miss": "redirect"}],
)  # fmt: skip
def test_every_control_is_in_the_command(moves, settings, told):
    opened, screen = settings
    for name, value in moves.items():
        getattr(screen.controls, name).value = value
    wanted = screen.controls.choice
    opened.pump(lambda: screen.current.choice == wanted and screen.current.answers)
    place = [point.choice for point in screen.asking.history.in_order].index(wanted)
    command = told(screen.command.text)
    assert screen.plot.points.data["gain"][place] == pytest.approx(command[GAIN], rel=1e-8)


def test_a_part_of_the_trace_is_named_and_can_be_simulated_again(opened_page, told, monkeypatch):
    from moe_replay.figures.live import questions

    monkeypatch.setattr(questions, "QUICK", 4000)
    opened = opened_page(seeds=1)
    screen = opened.page.settings
    opened.pump(lambda: screen.current is not None and not screen.current.quick)
    screen.controls.queue_size.value = "16"
    opened.pump(lambda: screen.current.choice.queue_size == 16)
    assert "the first" in screen.verdict.text
    assert "--axis sequences=" in screen.command.text
    part = screen.current.answers[0].part
    assert part.selections <= 4000 < part.of_selections
    equal(plotted(screen, "B=16"), told(screen.command.text))


def test_a_click_shows_the_verdict_of_a_point(settings):
    opened, screen = settings
    opened.pump(lambda: "B=2" in screen.plot.points.data["name"])
    screen.plot.points.selected.indices = [screen.plot.points.data["name"].index("B=2")]
    assert screen.controls.queue_size.value == "2"
    assert screen.verdict.text.startswith("<b>B = 2, ")
    opened.pump(lambda: not screen.current.quick)
    assert "queue_size=2 " in screen.command.text
    # Away, and back by a click on the same point.
    screen.controls.queue_size.value = "16"
    opened.pump(lambda: screen.current.choice.queue_size == 16)
    screen.plot.points.selected.indices = [screen.plot.points.data["name"].index("B=2")]
    assert (screen.controls.queue_size.value, screen.current.choice.queue_size) == ("2", 2)


@pytest.mark.parametrize(("rate", "smallest"), [(400, 2), (800, 4)])
def test_the_smallest_b_within_a_limit_is_that_of_the_recipe(rate, smallest, opened_page, prompts):
    """README.md asks the same question of the same trace: B = 2 is enough for 400 requests/s, B = 4 for 800."""
    opened = opened_page(prompts, seeds=3)
    screen = opened.page.settings
    screen.controls.arrivals.value, screen.controls.rate.value, screen.limit.value = "poisson", rate, 300
    screen.find_smallest()
    opened.pump(lambda: screen.asking.search is None)
    assert screen.status.text.endswith(": found.")
    assert (screen.current.choice.queue_size, screen.current.quick) == (smallest, False)
    assert screen.current.value("latency_p95_ms") <= 300


def test_the_highest_load_within_a_limit(opened_page, prompts):
    opened = opened_page(prompts, seeds=1)
    screen = opened.page.settings
    screen.controls.arrivals.value, screen.controls.queue_size.value, screen.limit.value = "poisson", "4", 250
    screen.find_highest()
    opened.pump(lambda: screen.asking.search is None)
    found = screen.current
    assert found.value("latency_p95_ms") <= 250
    higher = [
        p for p in screen.asking.history.in_order if p.choice.rate_per_s > found.choice.rate_per_s and not p.quick
    ]
    assert higher
    assert not [p for p in higher if screen.meets(p)]
    screen.limit.value = 0.001
    screen.find_highest()
    opened.pump(lambda: screen.asking.search is None)
    assert "none of those that were tried" in screen.status.text


def test_a_run_that_fails_shows_its_line_and_the_next_one_is_simulated(settings):
    opened, screen = settings
    screen.controls.slots.end = 99  # more than there are: what a browser could send
    screen.controls.cache.value, screen.controls.slots.value = "lru", 99
    opened.pump(lambda: "Cannot be simulated" in screen.status.text)
    assert "slots" in screen.status.text
    assert "<br" not in screen.status.text
    screen.controls.slots.value = 4
    opened.pump(lambda: screen.current.answers)
    assert "Cannot be simulated" not in screen.status.text


def test_a_trace_that_has_changed_is_refused(opened_page, toy, tmp_path, prompts):
    path = tmp_path / "mine.trace.parquet"
    path.write_bytes(toy.read_bytes())
    opened = opened_page(path, seeds=1)
    screen = opened.page.settings
    opened.pump(lambda: screen.current is not None)
    path.write_bytes(prompts.read_bytes())
    screen.controls.queue_size.value = "3"
    opened.pump(lambda: "Cannot be simulated" in screen.status.text)
    assert "mine.trace.parquet" in screen.status.text


def test_without_costs_the_page_says_so(opened_page):
    opened = opened_page(affine=None)
    assert "--costs" in opened.page.settings.status.text
    opened.page.settings.controls.queue_size.value = "4"
    assert opened.page.settings.current is None


def test_memory_reads_what_the_commands_count(opened_page, told):
    opened = opened_page(seeds=SEEDS, link={"expert_bytes": 40_000_000})
    opened.page.tabs.active = 1
    screen = opened.page.memory
    opened.pump(lambda: screen.curves is not None and screen.point is not None and not screen.point.quick)
    assert isinstance(screen.memory, Slider)
    assert (screen.plot.unit, screen.memory.end) == ("MB", pytest.approx(8 * 3 * 40))
    screen.plot.line.location = 3 * 3 * 40 + 9  # dragged near to three slots in each of three layers
    assert screen.slots == 3
    assert screen.memory.value == pytest.approx(360)
    opened.pump(lambda: screen.point.choice.slots == 3 and not screen.point.quick and "tokens/s" in screen.reading.text)
    counting, *timing = screen.command.text.splitlines()
    printed = told(counting)
    ratio = next(line.split()[4] for line in printed.splitlines() if line.split()[:2] == ["lru", "3"])
    assert f"lru misses {float(ratio):.1%} of accesses" in screen.reading.text
    row = told("\n".join(timing))
    assert f"{row['tokens_per_s']:,.4g} tokens/s" in screen.reading.text
    assert "all experts resident" in screen.reading.text
    shade = screen.plot.shade.data
    assert all(best <= worst for best, worst in zip(shade["miss"], screen.plot.curves[0].data["miss"], strict=True))


def test_lost_quality_is_read_where_it_was_measured(opened_page, tmp_path):
    opened = opened_page(seeds=1)
    screen = opened.page.memory
    opened.page.tabs.active = 1
    screen.miss.value = "skip"
    opened.pump(lambda: screen.point is not None and screen.point.choice.miss == "skip" and screen.point.answers)
    assert "of the gate mass; what that costs in quality is not known here" in screen.reading.text
    # With a table: 10 bits are lost where all mass is, and half of that at half.
    table = tmp_path / "quality.csv"
    fixed = {
        "miss": "skip",
        "measure": "bits_per_byte",
        "units": 100,
        "quality": 1,
        "quality_error": 0,
        "loss_error": 0,
    }
    rows = [{**fixed, "lost_mass": mass, "loss": 10 * mass} for mass in (0.2, 0.5, 1.0)]
    pd.DataFrame(rows).reindex(columns=QUALITY_COLUMNS).to_csv(table, index=False)
    opened = opened_page(seeds=1, quality=table)
    screen = opened.page.memory
    opened.page.tabs.active = 1
    screen.miss.value = "skip"
    opened.pump(lambda: screen.point is not None and screen.point.choice.miss == "skip" and screen.point.answers)
    mass = screen.point.answers[0].memory["lost_mass"]
    assert 0 < mass < 1
    assert f"as much cost {number(10 * mass)} bits_per_byte where it was measured" in screen.reading.text


def test_time_is_split_and_a_click_shows_a_stretch(opened_page):
    opened = opened_page(seeds=1, link={"expert_bytes": 40_000_000})
    page = opened.page
    opened.pump(lambda: page.settings.current is not None)
    page.settings.controls.cache.value = "lru"
    page.tabs.active = 2
    opened.pump(lambda: page.time.answer is not None)
    bars = page.time.bars.data
    assert bars["cause"] == ["compute", "queueing", "compulsory", "capacity", "policy", "bandwidth", "whole"]
    assert sum(bars["ms"][:-1]) == pytest.approx(bars["ms"][-1])
    assert bars["bottom"][1:-1] == bars["top"][:-2]
    page.time.bars.selected.indices = [5]
    shown = page.time.stretch.source.data
    assert {"device 0", "link 0"} == set(shown["track"])
    assert "link" in page.time.stretch.figure.title.text
    by_track = sorted(zip(shown["track"], shown["from_ms"], shown["to_ms"], strict=True))
    for (track, _, end), (other, start, _) in pairwise(by_track):
        assert track != other or end <= start  # nothing overlaps on a device or a link


@pytest.mark.parametrize(
    "moves",
    [{}, {"cache": "static", "slots": 5, "arrivals": "poisson"}, {"scheduler": "lockstep", "k": 1, "devices": 2}],
)
def test_a_stretch_can_be_opened_in_perfetto(moves, opened_page, told, tmp_path):
    pytest.importorskip("perfetto")
    opened = opened_page(seeds=1, link={"expert_bytes": 4_000_000, "link_bytes_per_s": 8e9, "link_latency_ns": 20_000})
    screen, page = opened.page.time, opened.page
    for name, value in moves.items():
        getattr(page.settings.controls, name).value = value
    page.tabs.active = 2
    opened.pump(lambda: screen.answer is not None)
    told(screen.command.text)
    assert [path.stat().st_size > 1000 for path in tmp_path.glob("*.pftrace")] == [True]


def test_routing_of_two_traces_and_loads_of_devices(opened_page, toy):
    opened = opened_page(beside=toy)
    opened.page.tabs.active = 3
    screen = opened.page.routing
    maps = [each for each, _ in screen.traces]
    opened.pump(lambda: all(each.drift_line.text for each in maps) and screen.loads.bars.data["planner"])
    first, second = ([source.data["image"][0] for source in each.load.sources] for each in maps)
    assert (first[0] == second[0]).all()
    assert first[0].shape == (3, 8)
    assert first[0].max() > first[1].max()  # the synthetic trace is skewed, its control is not
    screen.devices.value = 4
    opened.pump(lambda: len(screen.loads.dots.data["device"]) == 6 * 3 * 4)
    assert "contiguous" in screen.loads.bars.data["planner"]


def test_fidelity_is_what_the_shipped_tables_say(opened_page):
    opened = opened_page()
    opened.page.tabs.active = 4
    screen = opened.page.fidelity
    assert "100 of 100 runs" in screen.said.text
    assert "median error of 5.3 %" in screen.said.text
    assert len(screen.source.data["run"]) == 148
    assert screen.band.top == pytest.approx(2 * 3.7, abs=0.1)
    screen.metric.value = "latency_p95"
    assert not screen.band.visible


@pytest.fixture
def talks(tmp_path):
    """The path of a trace of prompts and decoded tokens whose sequences arrived at recorded times."""
    trace = synthetic(sequences=160, layers=3, experts=8, k=2, prompt=(4, 8), decode=(4, 8), seed=1)
    arrival_ns_S = np.cumsum(np.random.default_rng(0).exponential(60e6, trace.S)).astype(np.int64)
    save_trace(replace(trace, arrival_ns_S=arrival_ns_S), tmp_path / "talks.trace.parquet")
    return tmp_path / "talks.trace.parquet"


@pytest.mark.parametrize("arrivals", ["closed", "recorded"])
@pytest.mark.parametrize("time", ["ttft_p95_ms", "tpot_p50_ms"])
def test_times_to_tokens_are_on_the_axis_and_the_command_gives_them(arrivals, time, opened_page, talks, told):
    opened = opened_page(talks, seeds=SEEDS)
    screen = opened.page.settings
    screen.controls.arrivals.value, screen.controls.queue_size.value, screen.latency.value = arrivals, "1", time
    screen.controls.queue_size.trigger("value_throttled", "8", "1")
    opened.pump(lambda: is_exact(screen))
    command = told(screen.command.text)
    place = [point.choice for point in screen.asking.history.in_order].index(screen.current.choice)
    row = {name: values[place] for name, values in screen.plot.points.data.items()}
    for name, column in {"cost": time, "cost_low": f"{time}_low", "cost_high": f"{time}_high", "gain": GAIN}.items():
        assert row[name] == pytest.approx(command[column], rel=1e-8), name
    assert f"{time[:4].upper()}" in screen.verdict.text
    assert time[:4].upper() in screen.limit.title
    assert command["replications"] == (1 if arrivals == "recorded" else SEEDS)


def test_the_smallest_b_within_a_time_to_the_first_token(opened_page, talks):
    opened = opened_page(talks, seeds=1)
    screen = opened.page.settings
    screen.controls.in_flight.value, screen.latency.value, screen.limit.value = "64", "ttft_p95_ms", 600
    screen.find_smallest()
    opened.pump(lambda: screen.asking.search is None)
    assert screen.status.text.startswith("Smallest B with p95 of TTFT (time to first token) of at most 600 ms: found")
    tried = {point.choice.queue_size: point for point in screen.asking.history.in_order if not point.quick}
    found = screen.current.choice.queue_size
    assert found > 1
    assert all((point.value("ttft_p95_ms") <= 600) == (size == found) for size, point in tried.items() if size <= found)


def test_the_highest_rate_within_a_time_to_the_first_token(opened_page, talks):
    opened = opened_page(talks, seeds=1)
    screen = opened.page.settings
    screen.controls.arrivals.value, screen.controls.queue_size.value = "poisson", "1"
    screen.latency.value, screen.limit.value = "ttft_p95_ms", 40
    screen.find_highest()
    opened.pump(lambda: screen.asking.search is None)
    assert screen.status.text.startswith("Highest rate with p95 of TTFT (time to first token) of at most 40 ms: found")
    found = screen.current
    assert found.value("ttft_p95_ms") <= 40
    tried = [point for point in screen.asking.history.in_order if point.choice.rate_per_s > found.choice.rate_per_s]
    assert len(tried) > 1
    assert not [point for point in tried if not point.quick and screen.meets(point)]


def test_the_page_begins_with_as_many_sequences_in_flight_as_a_trace_can_measure(opened_page, prompts):
    """60 sequences: with 64 in flight a run would have no window without its start and its end."""
    assert opened_page(prompts).page.settings.controls.choice.in_flight == 64
    opened = opened_page(seeds=1)
    screen = opened.page.settings
    assert screen.controls.choice.in_flight == 6
    opened.pump(lambda: is_exact(screen))
    assert screen.current.status == "ok"


def test_what_a_trace_does_not_tell_is_not_offered(opened_page, prompts, talks):
    told = opened_page(talks).page.settings
    lacking = opened_page(prompts).page.settings
    assert "recorded" in dict(told.controls.arrivals.options)
    assert "recorded" not in dict(lacking.controls.arrivals.options)
    assert "ttft_p95_ms" in dict(told.latency.options)
    assert "ttft_p95_ms" not in dict(lacking.latency.options)
    assert "nothing decodes" in lacking.latency.title


def test_recorded_arrivals_of_a_large_trace_are_served_whole(opened_page, talks, told, monkeypatch):
    from moe_replay.figures.live import questions

    monkeypatch.setattr(questions, "QUICK", 500)
    opened = opened_page(talks, seeds=SEEDS)
    screen = opened.page.settings
    screen.controls.arrivals.value = "recorded"
    screen.controls.queue_size.value = "16"
    assert "served whole" in screen.status.text
    screen.controls.queue_size.trigger("value_throttled", "8", "16")
    opened.pump(lambda: not screen.current.quick)
    assert screen.current.answers[0].part.is_whole
    equal(plotted(screen, "B=16"), told(screen.command.text))
    screen.find_highest()
    assert "one load" in screen.status.text
