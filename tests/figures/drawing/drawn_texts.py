"""Texts of a figure as they are drawn: those that cover each other or points, and those that leave the paper."""

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text

INSIDE = 0.15  # of a text's height that its box reaches beyond its letters, above and below
PIXEL = 1.0  # by which boxes may touch


def drawn_texts(figure, monkeypatch):
    """Return [(text, its box in pixels)] of every text that drawing the figure draws: no tick outside its scale."""
    found, draw = [], Text.draw

    def noted(self, renderer, *rest):
        if self.get_visible() and self.get_text().strip():
            found.append(self)
        return draw(self, renderer, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Text, "draw", noted)
        figure.canvas.draw()
    return [(text, letters_box(text)) for text in dict.fromkeys(found)]


def letters_box(text):
    """Return where the letters of a text are, (left, bottom, right, top) in pixels; of an arrow's text without it."""
    box = Text.get_window_extent(text)
    line = text.get_fontsize() * text.figure.dpi / 72 * INSIDE
    upright = text.get_rotation() % 180 == 90
    x, y = (line, 0) if upright else (0, line)
    return box.x0 + x, box.y0 + y, box.x1 - x, box.y1 - y


def crowding(figure, monkeypatch):
    """Return what is wrong with the texts of a figure, a line each."""
    drawn = drawn_texts(figure, monkeypatch)
    wide, high = figure.bbox.x1 + PIXEL, figure.bbox.y1 + PIXEL
    wrong = [
        f"{text.get_text()!r} leaves the paper" for text, (left, bottom, right, top) in drawn
        if left < -PIXEL or bottom < -PIXEL or right > wide or top > high
    ]  # fmt: skip
    for (one, first), (other, second) in combinations(drawn, 2):
        if (
            min(first[2], second[2]) - max(first[0], second[0]) > PIXEL
            and min(first[3], second[3]) - max(first[1], second[1]) > PIXEL
        ):
            wrong.append(f"{one.get_text()!r} covers {other.get_text()!r}")
    return wrong + covered_points(figure) + cut_points(figure)


def covered_points(figure):
    """Return the points of lines that the words of their panel's legend cover, a line per word."""
    wrong = []
    for axes in figure.findobj(Axes):
        points = [line.get_transform().transform(line.get_xydata()) for line in axes.lines if len(line.get_xydata())]
        for text in axes.get_legend().get_texts() if axes.get_legend() else ():
            left, bottom, right, top = letters_box(text)
            if any(((at > (left, bottom)) & (at < (right, top))).all(axis=1).any() for at in points):
                wrong.append(f"{text.get_text()!r} of a legend covers points")
    return wrong


def cut_points(figure):
    """Return the points that lie outside their panel's scales and are not drawn, a line per series."""
    wrong = []
    for axes in figure.findobj(Axes):
        frame = axes.get_window_extent().padded(PIXEL)
        for line in axes.lines:
            points = line.get_transform().transform(line.get_xydata()) if line.get_clip_on() else np.empty((0, 2))
            cut = [at for at in points if np.isfinite(at).all() and not frame.contains(*at)]
            if cut:
                wrong.append(f"{len(cut)} points of {line.get_label()} lie outside {axes.get_title(loc='left')!r}")
    return wrong
