"""What all screens look like: colours, texts, and the few parts that they share."""

from __future__ import annotations

import html
from collections.abc import Callable

from bokeh.model import Model
from bokeh.models import Button, CustomJS, Div, InlineStyleSheet, PreText
from bokeh.plotting import figure

# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#888888",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
CONTROLS_WIDTH = 300
LEFT_WIDTH = CONTROLS_WIDTH + 30
WIDTH, HEIGHT = 760, 430  # of a plot beside controls
FULL_WIDTH = 980  # of one without


def heading(question: str, explained: str) -> Div:
    """Return a screen's question and how to read the answer."""
    text = f"<h2 style='margin:4px 0'>{html.escape(question)}</h2><p style='margin:2px 0'>{html.escape(explained)}</p>"
    return Div(text=text, width=CONTROLS_WIDTH + WIDTH)


def plot(title: str, **options: object) -> figure:
    """Return an empty plot in this page's size."""
    made = figure(**{"width": WIDTH, "height": HEIGHT, "title": title, "tools": "pan,wheel_zoom,reset,save", **options})
    made.toolbar.logo = None
    made.title.text_font_size = "13px"
    return made


def status_line() -> Div:
    """Return the line in which a screen says what it does."""
    return Div(text="", width=WIDTH)


def busy(text: str) -> str:
    """Return what is going on, for a status line."""
    return f"<span style='color:{GREY}'>{html.escape(text)}</span>"


def failed(line: str) -> str:
    """Return the one line that says what is wrong."""
    return f"<span style='color:{RED}'><b>Cannot be simulated:</b> {html.escape(line)}</span>"


def said(text: str) -> str:
    """Return a plain sentence."""
    return html.escape(text)


def command_text() -> PreText:
    """Return the place of a command; long lines are broken where it is shown, not where it is copied."""
    wrapped = InlineStyleSheet(css="pre { white-space: pre-wrap; background: #f4f4f4; padding: 6px; }")
    return PreText(text="", width=WIDTH, stylesheets=[wrapped])


def copy_button(command: PreText) -> Button:
    """Return a button that copies a command to the clipboard."""
    button = Button(label="Copy the command", width=160)
    button.js_on_click(CustomJS(args={"command": command}, code="navigator.clipboard.writeText(command.text)"))
    return button


def ladder(least: int, most: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12, ... between two numbers: steps that grow as what they do shrinks."""
    steps = sorted({step for power in range(20) for step in (2**power, 3 * 2**power // 2) if least <= step <= most})
    return steps or [least]


def number(value: float, digits: int = 4) -> str:
    """Return a number as people read it; `-` where there is none."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.{digits}g}"


def whenever(part: Model, attribute: str, then: Callable[[], None]) -> None:
    """Call a function whenever an attribute of a part of the page changes."""

    def changed(attr: str, old: object, new: object) -> None:
        then()

    part.on_change(attribute, changed)
