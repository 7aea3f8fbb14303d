"""Words within their places: titles and names of axes that are longer than their panel are broken into lines."""

import re
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

SPARE = 0.98  # of a place, filled with letters at most
LEAST = 10  # letters of a line
BEYOND = 1.15  # of a panel's height, taken by the name of its y axis at most


def fit_words(figure: Figure, whole: dict[Text, str]) -> bool:
    """Break titles and names of axes of a laid-out figure where they do not fit; say whether any was.

    `whole` remembers texts as they were, so that one that still is too long is broken anew.
    """
    renderer = figure.canvas.get_renderer()
    frames = {axes: axes.get_window_extent(renderer) for axes in figure.axes if axes.axison}
    places = []
    for axes, frame in frames.items():
        room = room_of_title(axes, frames, figure.bbox.x1)
        places += [(text, room, False) for text in (*titles(axes), axes.xaxis.label)]
        places.append((axes.yaxis.label, BEYOND * frame.height, True))
    return sum(broken(text, whole, room, renderer, upright) for text, room, upright in places) > 0


def titles(axes: Axes) -> list[Text]:
    """Return the texts of a panel's title: at its left end, as everywhere here, or in its middle."""
    said = {axes.get_title(loc="left"), axes.get_title(loc="center")} - {""}
    return [each for each in axes.get_children() if type(each) is Text and each.get_text() in said]


def room_of_title(axes: Axes, frames: dict, right: float) -> float:
    """Return the pixels from a panel's left end to the next panel of its row, or to the end of the figure."""
    frame = frames[axes]
    beside = [
        min(other.x0, each.yaxis.label.get_window_extent().x0 if each.get_ylabel() else other.x0)
        for each, other in frames.items()
        if each is not axes and other.x0 > frame.x1 and other.y0 < frame.y1 and other.y1 > frame.y0
    ]  # fmt: skip
    return min([right, *beside]) - frame.x0


def broken(text: Text, whole: dict[Text, str], room: float, renderer: object, upright: bool) -> bool:
    """Break a text into lines that fit `room` pixels; say whether that was necessary."""
    now = text.get_text()
    if not now:
        return False
    extent = text.get_window_extent(renderer)
    long = extent.height if upright else extent.width
    if long <= room:
        return False
    letters = max(LEAST, int(SPARE * max(map(len, now.split("\n"))) * room / long))
    lines = unbroken(whole.setdefault(text, now)).split("\n")
    text.set_text("\n".join(fill(line, letters, break_on_hyphens=False) for line in lines))
    return text.get_text() != now


def unbroken(words: str) -> str:
    """Return a text whose numbers keep their percent signs when it is broken into lines."""
    return re.sub(r"(?<=\d) ?%", "\u00a0%", words)
