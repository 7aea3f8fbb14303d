"""The one style of all figures: readable in grey, since markers and dashes differ wherever colours do."""

import io
import math
from textwrap import fill, shorten

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from moe_replay.figures.drawing import sheet
from moe_replay.figures.drawing.fitting import fit_words, unbroken
from moe_replay.figures.drawing.set_names import readable
from moe_replay.traces.command_line.files import replacing

matplotlib.use("Agg")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
DARK, MIDDLE, LIGHT = "#222222", "#777777", "#DDDDDD"
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", (0, (5, 2)), (0, (5, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (2, 1)))
DOTTED = (0, (1, 1.5))
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")  # of neighbouring bars
QUEUE_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
THEORY = {"linestyle": DOTTED, "linewidth": 1.8}
SHADE = "#F3F3F3"
ALARM = "#B00000"
DPI = 200
FONT, SMALL = 8, 7  # points
FITTED = 5  # times at most that words are broken: broken ones can leave others less room
TITLE_PAD = 4  # points between a panel and its title
LETTERS = 13.5  # of a headline in an inch
STEPS = {2: (1, 2, 5), 3: (1, 3)}  # labels of a decade, by the least ratio of two of them
LABEL_ROOM = {True: 0.31, False: 0.14}  # inches of a tick's label, across and upwards


def apply_style(width: str = "page") -> None:
    """Set fonts, lines and the deterministic options of the writers, for every figure of this process.

    `width` is one of `sheet.WIDTHS`: how wide figures are drawn from now on. Titles are right above their axes, since
    no axes have ticks there: to look for some takes a tenth of the time.
    """
    matplotlib.rcParams.update({
        "figure.figsize": (sheet.WIDTHS[width], sheet.WIDTHS[width] / 2),
        "font.family": "DejaVu Sans", "font.size": FONT, "axes.titlesize": FONT, "axes.titlelocation": "left",
        "axes.titley": 1.0, "axes.labelsize": FONT, "xtick.labelsize": SMALL, "ytick.labelsize": SMALL,
        "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E6E6E6", "grid.linewidth": 0.6,
        "axes.edgecolor": DARK, "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
        "legend.frameon": False, "legend.fontsize": SMALL, "legend.handlelength": 1.6, "lines.linewidth": 1.2,
        "lines.markersize": 3.5, "axes.titlepad": TITLE_PAD, "axes.labelpad": 2,
        "figure.constrained_layout.h_pad": 0.05, "pdf.fonttype": 42, "savefig.dpi": DPI, "figure.dpi": DPI,
    })  # fmt: skip


def look(index: int) -> dict:
    """Return colour, marker and dash of the index-th series; all three differ from the neighbours'.

    Where colours begin again, each meets the next marker and dash: 36 series have 36 looks.
    """
    turn, place = divmod(index, len(COLOURS))
    return {
        "color": COLOURS[place],
        "marker": MARKERS[(place + turn) % len(MARKERS)],
        "linestyle": DASHES[(place + turn) % len(DASHES)],
    }


def queue_size_axis(axes: Axes, sizes: list[int] | tuple[int, ...] = QUEUE_SIZES) -> None:
    """Make x the queue size B: base 2, one tick per size, plain numbers."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(min(sizes) / 1.3, max(sizes) * 1.3)
    axes.set_xlabel("queue size B")


class RoomyLogLocator(LogLocator):
    """Ticks at 1, 2 and 5 of every decade where their labels have room, else at 1 and 3, else at powers of ten."""

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Return the places of the ticks between two values, as the library asks for them."""
        panel, across = self.axis.axes, self.axis.axis_name == "x"
        inches = (panel.bbox.width if across else panel.bbox.height) / panel.figure.dpi
        decade = inches / max(math.log10(vmax / vmin), 1e-9)
        fitting = [
            subs for least, subs in ((2, (1, 2, 5)), (3, (1, 3))) if math.log10(least) * decade >= LABEL_ROOM[across]
        ]
        self.set_params(subs=[*fitting, (1,)][0])
        return super().tick_values(vmin, vmax)


def log_axis(axis: Axis) -> None:
    """Give a logarithmic axis labels as plain numbers (20, 1,000), at 1, 2 and 5 of every decade where they fit."""
    axis.set_major_locator(RoomyLogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def note(
    axes: Axes, text: str, at: tuple, coordinates: object = "data", offset: tuple = (3, 2), ha: str = "left"
) -> None:
    """Write a small remark beside a point, `offset` points away from it; lines that it crosses end before it."""
    axes.annotate(
        text,
        at,
        xycoords=coordinates,
        xytext=offset,
        textcoords="offset points",
        ha=ha,
        fontsize=SMALL,
        color=MIDDLE,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        zorder=2.4,  # above lines, below the frame
    )


def absent(axes: Axes, text: str) -> None:
    """Say in empty axes what was not measured by intention: nothing is missing, nothing has failed."""
    axes.set(xticks=[], yticks=[])
    axes.text(
        0.5, 0.5, fill(text, 44), transform=axes.transAxes, ha="center", va="center", fontsize=SMALL, color=MIDDLE
    ).set_in_layout(False)


def hole(axes: Axes, lines: list[str], beside_data: bool = False) -> None:
    """Name what is missing, in the axes themselves, where a reader looks for the data.

    An empty panel loses its scales; `beside_data` writes small, into the corner where rising curves leave room. Lines
    with the same reason are told once, the first of them in full.
    """
    if not beside_data:
        axes.set(xticks=[], yticks=[])
    text = "\n".join(["missing or failed:", *[fill(shorten(line, 130), 44) for line in by_reason(lines)[:3]]])
    x, y, ha, va, size = (
        (0.98, 0.03, "right", "bottom", SMALL) if beside_data else (0.5, 0.5, "center", "center", SMALL)
    )
    box = {"facecolor": "white", "edgecolor": ALARM, "pad": 3, "alpha": 0.85}
    written = axes.text(
        x, y, text, transform=axes.transAxes, ha=ha, va=va, fontsize=size, color=ALARM, bbox=box, zorder=9
    )
    written.set_in_layout(False)


def by_reason(lines: list[str]) -> list[str]:
    """Return `place: reason` lines, those with equal reasons drawn together as `first place and 3 more: reason`."""
    places: dict[str, list[str]] = {}
    for line in lines:
        place, _, reason = line.partition(": ")
        places.setdefault(reason, []).append(place)
    more = {reason: f" and {len(found) - 1} more" if len(found) > 1 else "" for reason, found in places.items()}
    return [f"{found[0]}{more[reason]}: {reason}" for reason, found in places.items()]


def headline(figure: Figure, claim: str) -> None:
    """Write what a figure shows above it, one sentence with its number, wrapped to the figure's width."""
    if claim:
        lines = fill(unbroken(readable(claim)), int(LETTERS * figure.get_figwidth()), break_on_hyphens=False)
        figure.suptitle(lines, x=0.01, ha="left", fontsize=FONT, fontweight="bold")


def key(figure: Figure, text: str) -> None:
    """Say below a figure, small, how to read it."""
    lines = fill(readable(text), int(1.25 * LETTERS * figure.get_figwidth()))
    figure.supxlabel(lines, x=0.01, ha="left", fontsize=SMALL, color=MIDDLE)


def freeze(figure: Figure) -> None:
    """Lay the figure out once; otherwise every file it is saved to works the layout out again.

    It is laid out again where words had to be broken to fit. A figure with a layout engine, even the one called
    "none", is also drawn twice for every file.
    """
    engine = figure.get_layout_engine()
    if sheet.is_column():
        sheet.plain_once([axes for axes in figure.axes if axes.axison])
    engine.execute(figure)
    whole: dict[Text, str] = {}
    for _ in range(FITTED):
        if not fit_words(figure, whole):
            break
        engine.execute(figure)
    figure.set_layout_engine(None)


def save(figure: Figure, path: str, kind: str, about: str = "") -> None:
    """Write a figure without dates or program versions, so that equal tables give equal bytes; whole or not at all.

    `about` (the digests of its tables) goes into the file's metadata, where it takes no room in print.
    """
    said = {
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None, "Keywords": about},
        "png": {"Software": None, "Description": about},
    }
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, metadata=said[kind])  # not to the file: a full disk breaks what writes a PDF
    with replacing(path) as temporary:
        temporary.write_bytes(drawn.getbuffer())


def band(axes: Axes, rows: pd.DataFrame, x: str, y: str, color: str) -> None:
    """Shade the interval of a line, from the columns `y_low` to `y_high` where the table has them."""
    if f"{y}_low" in rows:
        axes.fill_between(rows[x], rows[f"{y}_low"], rows[f"{y}_high"], color=color, alpha=0.25, linewidth=0)
