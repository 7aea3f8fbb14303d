"""Which figures there are: every module in a folder of themes bears the name of its table and has a function `draw`.

What does not fit one claim is a second figure of the same table: NAME_supplement.
"""

from importlib import import_module
from pathlib import Path

from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.table_files import TableFiles

THEMES = ("routing", "quality", "queues", "expert_memory", "devices", "training")
LONGEST = ("locality", "queue_size", "delta_k")  # drawn first, so that nobody waits for the last


def figure_modules() -> dict[str, str]:
    """Return the dotted module of every figure, by its name."""
    here = Path(__file__).parent
    paths = [path for theme in THEMES for path in (here / theme).glob("*.py") if path.stem != "__init__"]
    return {
        path.stem: f"moe_replay.figures.{path.parent.name}.{path.stem}" for path in sorted(paths, key=lambda p: p.stem)
    }


MODULES = figure_modules()
FIGURES = tuple(MODULES)
SUPPLEMENT = "_supplement"  # ends the name of a figure that shows more of another's tables


def table_of(figure: str) -> str:
    """Return the name of the table, and of the claim, that a figure shows."""
    return figure.removesuffix(SUPPLEMENT)


def draw_one(name: str, tables: TableFiles, width: str = "page") -> Figure:
    """Return one figure by its name, a page or a column wide."""
    style.apply_style(width)
    return import_module(MODULES[name]).draw(tables)
