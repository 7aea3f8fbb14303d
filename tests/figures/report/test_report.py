"""`figures report`: one file that opens from a disk, asks nobody for anything, and holds every number."""

import contextlib
import io
import json
import shutil
import sys
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from own_results import own_results, runs_table
from PIL import Image

from moe_replay.analysis.results.results_found import find_results
from moe_replay.figures.__main__ import app
from moe_replay.figures.charts.chart import Chart, HeatMap
from moe_replay.figures.charts.charts_of_results import charts_of
from moe_replay.figures.report.packed_tables import kept_rows
from moe_replay.traces.command_line.command import status_of

LARGEST = 3_000_000
DRAWN = "return document.body.dataset.drawn === 'yes'"
OWN_CHARTS = """
const found = {};
for (const drawn of Bokeh.documents) for (const model of drawn.all_models) {
    if (model.type !== "Figure") continue;
    found[model.name] = model.renderers.map((each) => Object.fromEntries(each.data_source.columns().map(
        (name) => [name, Array.from(each.data_source.get_column(name), (v) => v && v.length > 1 && typeof v !== "string"
            ? Array.from(v) : v)])));
}
return found;
"""


def report(*words):
    said, wrong = io.StringIO(), io.StringIO()
    asked = ["report", *map(str, words)]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong), patch.object(sys, "argv", ["x", *asked]):
        status = status_of(app, "figures", asked)
    return SimpleNamespace(status=status, said=said.getvalue(), wrong=wrong.getvalue())


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with every kind of result, and its report."""
    folder = own_results(tmp_path_factory.mktemp("own"))
    out = tmp_path_factory.mktemp("out") / "report.html"
    done = report(folder, "--out", out)
    assert (done.status, done.wrong) == (0, "")
    return SimpleNamespace(folder=folder, page=out, found=find_results(folder))


def test_it_opens_from_a_disk_without_a_request_or_a_complaint(own, page):
    page.open(own.page, drawn=False).until(DRAWN)
    assert (page.requests(), page.complaints()) == ([], [])
    shown = page.run("return document.body.innerText")
    headings = [
        line for line in shown.splitlines() if line in ("Summary", "Pictures", "Tables", "How to make it again")
    ]
    assert headings[-4:] == ["Summary", "Pictures", "Tables", "How to make it again"]
    for result in own.found.results:
        assert all(" ".join(line.split()) in " ".join(shown.split()) for line in (*result.findings, *result.doubts))
        assert result.digest in shown
        assert not result.command or result.command in shown


def test_each_chart_has_its_data(own, page):
    page.open(own.page, drawn=False).until(DRAWN)
    drawn = page.run(OWN_CHARTS)
    charts = [chart for result in own.found.results for chart in charts_of(result)]
    assert len(drawn) == len(charts)
    places = page.run("return [...document.querySelectorAll('.chart')].map((each) => [each.id, each.children.length])")
    assert sorted(name for name, _ in places) == sorted(drawn)
    assert all(inside for _, inside in places)
    for chart in charts:
        wanted = [values_of(chart)]
        assert any(found == wanted[0] for found in map(values_drawn, drawn.values())), chart.title


def values_of(chart):
    """The numbers of a chart, sorted."""
    if isinstance(chart, Chart):
        return sorted(round(float(y), 6) for series in chart.series for y in series.y if y == y)
    if isinstance(chart, HeatMap):
        return sorted(round(float(np.float32(value)), 6) for row in chart.values for value in row)
    return sorted(round(float(value), 6) for values in chart.parts.values() for value in values)


def values_drawn(sources):
    """The numbers of a drawn chart, sorted: a line and its markers have one source each, of equal values."""
    seen = {}
    for source in sources:
        if "mark" in source:
            continue
        numbers = source.get("value") or source.get("image") or source.get("y")
        flat = np.ravel([each for each in numbers if each is not None]).astype(float)
        seen[json.dumps(source, sort_keys=True)] = [round(value, 6) for value in flat.tolist() if value == value]
    return sorted(value for values in seen.values() for value in values)


def test_unstable_settings_have_a_cross_and_no_value(own, page):
    page.open(own.page, drawn=False).until(DRAWN)
    crossed = [source for sources in page.run(OWN_CHARTS).values() for source in sources if "mark" in source]
    assert {(source["x"][0], source["why"][0]) for source in crossed} == {(1, "unstable"), (400, "unstable")}
    assert len(crossed) == 6  # throughput, p50 and p95, against both axes


FIND = """
const tables = [...document.querySelectorAll('details.table')];
const table = tables.find((each) => each.innerText.includes(arguments[0]));
"""


def rows_shown(page, name):
    script = f"""{FIND}
        return [...table.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent));
    """
    return page.run(script, name)


def act(page, name, column, script):
    """Do something with the button or the filter of a column of a table."""
    page.run(f"""{FIND}
        const names = [...table.querySelectorAll('thead button')];
        const at = names.findIndex((each) => each.textContent === arguments[1]);
        const button = names[at], box = table.querySelectorAll('thead input')[at];
        {script}
    """, name, column)  # fmt: skip


def test_tables_sort_and_filter(own, page):
    page.open(own.page, drawn=False).until(DRAWN)
    page.until("return document.querySelectorAll('details.table[open] tbody tr').length > 6")
    first = [row[0] for row in rows_shown(page, "runs.csv")]
    assert first == list("123456")
    act(page, "runs.csv", "p95 ms", "button.click()")
    ascending = [row[0] for row in rows_shown(page, "runs.csv")]
    table = runs_table().assign(row=[str(number) for number in range(1, 7)])
    order = table.sort_values("latency_p95_ms", kind="stable", na_position="last")["row"]
    assert ascending == list(order)
    act(page, "runs.csv", "p95 ms", "button.click()")
    assert [row[0] for row in rows_shown(page, "runs.csv")][-1] == "2"  # empty ones stay last
    type_into = "box.value = '{}'; box.dispatchEvent(new Event('input'))"
    act(page, "runs.csv", "B", type_into.format(">=2"))
    assert {row[0] for row in rows_shown(page, "runs.csv")} == set("3456")
    act(page, "runs.csv", "B", type_into.format(""))
    act(page, "runs.csv", "status", type_into.format("unst"))
    assert [row[0] for row in rows_shown(page, "runs.csv")] == ["2"]


def test_hostile_names_are_texts(tmp_path, page):
    """Neither a file's name, a cell nor a column becomes a part of the page."""
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    evil = "</script><script>document.title = 'broken'</script><img src='https://example.org/x.png'>"
    pd.DataFrame({evil: [evil], "b": [1]}).to_csv(folder / "a<b>.csv", index=False)
    shutil.copy(own_results(tmp_path / "own") / "orders.csv", folder)
    orders = pd.read_csv(folder / "orders.csv").assign(order_policy=[evil, "b", "c"])
    orders.to_csv(folder / "orders.csv", index=False)
    assert report(folder, "--out", tmp_path / "report.html").status == 0
    page.open(tmp_path / "report.html", drawn=False).until(DRAWN)
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    page.until("return document.querySelectorAll('tbody td').length > 5")
    assert (page.requests(), page.complaints()) == ([], [])
    assert page.run("return document.title").startswith("Results of <img")


def shipped(folder, pictures):
    """What ./RUNME.sh leaves: tables, claims, and pictures {figure: pixels}."""
    (folder / "tables").mkdir(parents=True)
    (folder / "figures").mkdir()
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / "figures" / f"{name}.png")
    rows = {"set": "cpu/images", "status": "ok", "reason": "", "x": np.arange(9000), "y": np.arange(9000) / 7}
    pd.DataFrame(rows).to_csv(folder / "tables" / "locality.csv", index=False)
    claim = "Is it local? Yes: 0.5 of the experts are selected again. More words."
    (folder / "tables" / "claims.json").write_text(json.dumps({"locality": {"claim": claim, "numbers": {}}}))
    return folder


@pytest.mark.parametrize(("largest", "fit"), [(600_000, True), (300_000, True), (100_000, False)])
def test_pictures_take_the_room_that_there_is_and_it_is_said_where_there_is_none(tmp_path, monkeypatch, largest, fit):
    """Noise cannot be compressed: in 32, 24 and 16 colours it takes five, four and a half and four bits a pixel."""
    from moe_replay.figures.report import report_page

    monkeypatch.setattr(report_page, "LARGEST", largest)
    noise = np.random.default_rng(1).integers(0, 256, (320, 1300, 3), np.uint8)
    folder = shipped(tmp_path / "x", {"locality": noise})
    done = report(folder, "--out", folder / "report.html")
    assert (done.status, done.wrong) == (0, "")
    page = (folder / "report.html").read_bytes()
    assert (len(page) <= largest + 200, b"data:image/webp" in page, b"1 picture, too large for one file" in page) == (
        fit or len(page) <= largest + 200, fit, not fit,
    )  # fmt: skip
    assert (
        b"Not all: the first 5,000 of 9,000 rows. Filters look at these alone; tables/locality.csv holds all." in page
    )
    assert b"Is it local? Yes: 0.5 of the experts are selected again." in page


def test_a_claim_has_its_picture(tmp_path, page):
    folder = shipped(tmp_path / "x", {"locality": np.full((900, 2000, 3), 255, np.uint8)})
    assert report(folder, "--out", folder / "report.html").status == 0
    page.open(folder / "report.html", drawn=False).until(DRAWN)
    assert page.run("return [...document.images].map((each) => [each.complete, each.naturalWidth])") == [[True, 1300]]
    assert (page.requests(), page.complaints()) == ([], [])


def test_the_same_command_brings_its_own_report_up_to_date(own, tmp_path):
    out = tmp_path / "report.html"
    folder = shutil.copytree(own.folder, tmp_path / "own")
    assert report(folder / "runs.csv", "--out", out).status == 0
    before = out.read_bytes()
    runs_table().head(4).to_csv(folder / "runs.csv", index=False)
    assert report(folder / "runs.csv", "--out", out).status == 0
    assert out.read_bytes() != before
    refused = report(folder / "memory.csv", "--out", out)
    assert (refused.status, refused.wrong.count("\n")) == (2, 1)
    out.write_bytes(out.read_bytes().replace(b"Summary", b"Changed"))
    runs_table().to_csv(folder / "runs.csv", index=False)
    assert report(folder / "runs.csv", "--out", out).status == 2  # somebody changed it
    assert report(folder / "runs.csv", "--out", out, "--force").status == 0


def test_the_same_results_give_the_same_bytes(own, tmp_path):
    """In one process too, in which bokeh numbers its models on and on."""
    for name in ("one.html", "two.html"):
        assert report(own.folder / "misses.csv", "--out", tmp_path / name, "--title", "t").status == 0
    one, two = ((tmp_path / name).read_text().partition("<!-- sha256")[0] for name in ("one.html", "two.html"))
    assert one.replace("one.html", "two.html") == two


def test_without_bokeh_it_says_what_brings_it(own, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    for name in [name for name in sys.modules if name.startswith("moe_replay.figures.report.")]:
        monkeypatch.delitem(sys.modules, name)
    done = report(own.folder / "runs.csv", "--out", tmp_path / "report.html")
    assert done.status == 2
    line = "figures: report: needs bokeh, which is not installed; allowed with `pip install -e .[report]`"
    assert done.wrong == f"{line}, which brings bokeh and jinja2\n"


def test_a_large_table_has_rows_of_every_set_and_says_which():
    sets = pd.DataFrame({"set": ["a"] * 9000 + ["b"] * 30, "trace": "x", "value": range(9030)})
    kept, said = kept_rows(sets, "large.csv")
    assert list(kept["value"]) == [*range(2500), *range(9000, 9030)]
    assert said == (
        "Not all: the first 2,500 of every set, 2,530 of 9,030 rows. Filters look at these alone; large.csv holds all."
    )
    kept, said = kept_rows(sets[["value"]], "large.csv")
    assert (list(kept["value"]), said.partition(" of ")[0]) == ([*range(5000)], "Not all: the first 5,000")
    assert kept_rows(sets.head(5000), "large.csv")[1] == ""
