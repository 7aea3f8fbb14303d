"""The browser of the tests of pages notices what it is there for: requests, complaints, and what a chart holds."""

import pytest

QUIET = "<!doctype html><title>t</title><link rel=icon href='data:,'><p id=x>hello</p>"


@pytest.fixture
def saved(tmp_path):
    """Return a function (HTML) -> path of a page."""

    def save(text):
        path = tmp_path / "page.html"
        path.write_text(text)
        return path

    return save


def test_a_quiet_page_asks_for_nothing(page, saved):
    page.open(saved(QUIET), drawn=False)
    assert page.run("return document.getElementById('x').textContent") == "hello"
    assert (page.requests(), page.complaints()) == ([], [])


@pytest.mark.parametrize(
    "addition",
    [
        "<script src='https://cdn.example.org/x.js'></script>",
        "<img src='http://example.org/x.png'>",
        "<style>@import url('https://fonts.example.org/x.css');</style>",
        "<script>fetch('https://example.org/x.json').catch(() => 0)</script>",
        "<img src='beside.png'>",
    ],
)
def test_a_request_is_noticed(page, saved, addition):
    page.open(saved(QUIET + addition), drawn=False)
    assert len(page.requests()) == 1


def test_a_complaint_is_noticed(page, saved):
    page.open(saved(QUIET + "<script>throw new Error('broken')</script>"), drawn=False)
    assert ["broken" in each for each in page.complaints()] == [True]
    assert page.open(saved(QUIET), drawn=False).complaints() == []


def test_what_a_chart_holds_is_read(page, saved):
    from bokeh.embed import file_html
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    chart = figure(title="two points")
    chart.scatter([1, 2], [3.5, 4])
    page.open(saved(file_html(chart, INLINE, "t")))
    assert page.charts() == {"two points": [{"x": [1, 2], "y": [3.5, 4]}]}
    assert page.requests() == []
