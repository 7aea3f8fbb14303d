"""The page as it is served: a client without a browser, a browser, one window beside another, and how it ends."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bokeh.client import pull_session
from selenium.webdriver.common.actions.action_builder import ActionBuilder

from moe_replay.figures.live import page_server
from moe_replay.figures.live.page_style import number

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/")
LONGEST_S = 240  # where the engine is compiled first


def started(trace, *words):
    """(address, process) of a page that is served."""
    line = [sys.executable, "-m", "figures", "live", str(trace), "--affine", "200000,20000", "--seeds", "2", *words]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = process.stdout.readline()
    assert ADDRESS.search(said), said + process.stderr.read()
    return ADDRESS.search(said)[0], process


@pytest.fixture(scope="module")
def copied(toy, tmp_path_factory):
    """The path of a copy of the toy trace, which a test may spoil and has to restore."""
    return Path(shutil.copy(toy, tmp_path_factory.mktemp("served") / "copy.trace.parquet"))


@pytest.fixture(scope="module")
def address(copied):
    """Where the copy is served to all browsers; it is ended with Ctrl-C afterwards."""
    found, process = started(copied, "--expert-bytes", "40MB")
    yield found
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LONGEST_S)


def wait(until, every_s=0.05):
    end = time.monotonic() + LONGEST_S
    while not until():
        assert time.monotonic() < end
        time.sleep(every_s)


def answered(session):
    """Fetch a client's document anew; say whether the ring is around a point."""
    session.pull()
    return bool(session.document.get_model_by_name("ring").data["gain"])


def test_a_client_gets_answers_and_ctrl_c_ends_all(toy):
    address, process = started(toy)
    session = pull_session(url=address)
    wait(lambda: answered(session), every_s=1)
    session.close()
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    said, errors = process.communicate(timeout=LONGEST_S)
    assert time.monotonic() - begun < 10
    assert (process.returncode, errors) == (0, "")
    assert said.endswith("ended\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [(["nothing.parquet"], "nothing.parquet: no such file"), (["TOY", "--costs", "none/such"], "no cost table"),
     (["TOY", "--affine", "1"], "--affine"), (["TOY", "--beside", "none.parquet"], "none.parquet"),
     (["TOY", "--executed", "nowhere"], "fidelity.csv: no such file"), (["TOY", "--quality", "none.csv"], "none.csv"),
     (["TOY", "--affine", "1,2", "--costs", "x"], "either"), (["TOY", "--port", "TAKEN"], "--port")],
)  # fmt: skip
def test_what_cannot_be_served_is_one_line(words, line, toy, processes, capsys, monkeypatch):
    from moe_replay.figures.__main__ import app
    from moe_replay.traces.command_line.command import status_of

    monkeypatch.setattr(page_server, "AnsweringProcesses", lambda: contextlib.nullcontext(processes))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = {"TOY": str(toy), "TAKEN": str(taken.getsockname()[1])}
        words = ["live", *(given.get(each, each) for each in words)]
        monkeypatch.setattr(sys, "argv", ["figures/__main__.py", *words])
        assert status_of(app, "figures", words) == 2
    errors = capsys.readouterr().err
    assert line in errors
    assert len(errors.strip().splitlines()) == 1


MOVE = """
for (const drawn of Bokeh.documents) for (const model of drawn.all_models)
    if (model.title === arguments[0] && model.type.endsWith('Slider')) { model.value = arguments[1]; return true; }
"""
TEXTS = """
const found = [];
for (const drawn of Bokeh.documents) for (const model of drawn.all_models)
    if (model.type === 'Div' || model.type === 'PreText') found.push(model.text);
return found.join('\\n');
"""
ROWS = """
const found = [];
const look = (root) => {
    for (const each of root.querySelectorAll('*')) {
        if (each.classList.contains('slick-row'))
            found.push([...each.querySelectorAll('.slick-cell')].map((cell) => cell.textContent));
        if (each.shadowRoot) look(each.shadowRoot);
    }
};
look(document);
return found;
"""
TITLE = "Up and to the left is better"


def points(page):
    """{name: (throughput, latency)} of the points that the browser has."""
    found = next(each for each in page.charts()[TITLE] if "name" in each)
    return dict(zip(found["name"], zip(found["gain"], found["cost"], strict=True), strict=True))


def row_of(page, begins):
    """The cells of the table's row whose configuration begins so."""
    return next((cells for cells in page.run(ROWS) if cells[0].startswith(begins)), [])


def test_a_slider_in_a_browser_moves_what_is_drawn_to_the_commands_numbers(page, address, told):
    page.open(address)
    wait(lambda: "B=8" in points(page))
    assert "B=24" not in points(page)
    assert page.run(MOVE, "Queue size B", "24")
    wait(lambda: "B=24" in points(page))
    wait(lambda: "queue_size=24" in page.run(TEXTS))
    command = next(part for part in re.findall(r"python -m simulate sweep.*\n.*", page.run(TEXTS)) if "=24 " in part)
    row = told(command)
    assert points(page)["B=24"] == pytest.approx((row["throughput_per_s"], row["latency_p95_ms"]), rel=1e-6)
    # The table has the points' values too, though no row is added.
    assert page.run(MOVE.replace("Slider", "Select"), "Time", "request_p95_ms")
    wait(lambda: row_of(page, "B = 24")[1:3] == [number(each) for each in points(page)["B=24"]])
    for screen in range(5):
        page.run("Bokeh.documents[0].roots()[0].active = arguments[0]", screen)
        time.sleep(0.3)
    wait(lambda: any(each.get("image") for each in page.charts()["Load, recorded"]))
    assert page.complaints() == []
    assert not [each for each in page.requests() if not each.partition("://")[2].startswith("127.0.0.1:")]


LINE = """
let line = null, found = null;
for (const model of Bokeh.documents[0].all_models) if (model.type === 'Span' && model.editable) line = model;
const look = (view) => {
    if (view.model === line) found = view;
    for (const each of view.child_views || []) look(each);
    for (const each of view.renderer_views ? view.renderer_views.values() : []) if (each.model === line) found = each;
};
for (const root of Bokeh.index.roots) look(root);
const from = found.plot_view.canvas_view.el.getBoundingClientRect(), {p0, p1} = found.line;
return [from.left + (p0.x + p1.x) / 2, from.top + (p0.y + p1.y) / 2, line.location];
"""


def test_the_line_of_memory_can_be_dragged(page, address):
    page.open(address)
    page.run("Bokeh.documents[0].roots()[0].active = 1")
    wait(lambda: "hold 4 of 8 experts" in page.run(TEXTS) and "tokens/s</b>" in page.run(TEXTS))
    x, y, before = page.run(LINE)
    hand = ActionBuilder(page.driver, duration=20)
    hand.pointer_action.move_to_location(int(x), int(y)).pointer_down()
    for step in range(1, 16):
        hand.pointer_action.move_to_location(int(x) - 12 * step, int(y))
    hand.pointer_action.pointer_up()
    hand.perform()
    wait(lambda: "hold 2 of 8 experts" in page.run(TEXTS))
    assert page.run(LINE)[2] < 0.7 * before
    wait(lambda: "slots=2 " in page.run(TEXTS))


def test_a_trace_that_goes_bad_is_one_line_on_the_page(page, address, copied, toy):
    page.open(address)
    wait(lambda: "B=8" in points(page))
    copied.write_bytes(b"no trace any more")
    try:
        page.run(MOVE, "Queue size B", "3")
        # One line: the status is a single paragraph that names the file.
        wait(lambda: re.search(r"Cannot be simulated:</b> [^\n]*copy\.trace\.parquet[^\n]*</span>", page.run(TEXTS)))
    finally:
        shutil.copy(toy, copied)
    page.run(MOVE, "Queue size B", "6")
    wait(lambda: "B=6" in points(page))
    assert page.complaints() == []
