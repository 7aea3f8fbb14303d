"""Files of plots: a PDF and a PNG of every chart, named after its result, and a list that says what each shows."""

import re
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt

from moe_replay.analysis.results.result import Result
from moe_replay.figures.charts.chart import Drawing
from moe_replay.figures.drawing.style import freeze, save
from moe_replay.figures.plots.static_charts import draw_chart
from moe_replay.traces.command_line.files import sha256_of, write_json
from moe_replay.traces.command_line.outputs import is_by_this_command, json_in
from moe_replay.traces.command_line.provenance import provenance

LIST = "plots.json"


def write_plots(
    drawn: list[tuple[Result, Drawing]], out: Path, kinds: list[str], width: str, said: Callable[[], None]
) -> list[str]:
    """Draw every chart into the folder `out`; return the names of the plots. `said()` is told after each."""
    names, about = [], {}
    for result, chart in drawn:
        name = distinct_name(f"{result.name}-{chart.name}", names)
        figure = draw_chart(chart, width)
        freeze(figure)
        for kind in kinds:
            save(figure, str(out / f"{name}.{kind}"), kind)
        plt.close(figure)
        names.append(name)
        about[name] = {"title": chart.title, "note": chart.note, "result": result.name, "sha256": result.digest}
        said()
    files = {path.name: sha256_of(path) for path in sorted(out.iterdir())}
    write_json(out / LIST, {"plots": about, "files": files, "provenance": provenance()})
    return names


def distinct_name(text: str, others: list[str]) -> str:
    """Return a name for files: letters, digits, dots and dashes, and a number where another has it."""
    name = re.sub(r"[^\w.=-]+", "_", text).strip("_.")
    found, number = name, 2
    while found in others:
        found, number = f"{name}-{number}", number + 1
    return found


def is_plotted(path: Path) -> bool:
    """Say whether the running command plotted a file, and nobody changed it since."""
    about = path.with_name(LIST)
    if not is_by_this_command(about):
        return False
    return path == about or (path.is_file() and json_in(about).get("files", {}).get(path.name) == sha256_of(path))
