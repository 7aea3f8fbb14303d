"""The report's page: what was run and found, what to mistrust; then pictures, tables, and how to make it again."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from bokeh import __version__ as bokeh_version
from bokeh.document import Document
from bokeh.plotting import figure
from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from moe_replay.analysis.results.result import KINDS, TABLE, Result, counted, first_sentence
from moe_replay.analysis.results.results_found import Found
from moe_replay.figures.charts.charts_of_results import charts_found
from moe_replay.figures.report.embedded_pictures import embedded
from moe_replay.figures.report.interactive_charts import interactive, renumbered
from moe_replay.figures.report.packed_tables import packed, packed_json
from moe_replay.traces.command_line.provenance import provenance

FOLDER = Path(__file__).parent
SCRIPTS = ("unpack.js", "sort_and_filter.js", "draw_charts.js")
LARGEST = 2_950_000  # bytes of a report, which its pictures keep by being compressed; 3 MB with their descriptions
OPEN_ROWS = 60  # a user's own table of at most so many rows is open at once
NAMES_SAID = 3


@dataclass
class Group:
    """What is shown together: a result, or the tables of one figure."""

    name: str
    heading: str
    results: list[Result]
    anchor: str
    charts: list[dict] = field(default_factory=list)
    picture: str = ""

    @property
    def claim(self) -> str:
        """The claim of the figure, empty for other results."""
        return next((each.claim for each in self.results if each.claim), "")

    @property
    def short(self) -> str:
        """The first sentence of the claim."""
        return first_sentence(self.claim)

    @property
    def findings(self) -> list[str]:
        """What the results show, in their order."""
        return [line for each in self.results for line in each.findings]


def report_page(found: Found, title: str) -> str:
    """Return the HTML of a report of results."""
    groups, charts = grouped(found.results), {result.name: drawn for result, drawn in charts_found(found)}
    figures = {}
    for group in groups:
        for chart in [each for result in group.results for each in charts[result.name]]:
            anchor = f"{group.anchor}-chart-{len(group.charts)}"
            figures[anchor] = renumbered(item_of(interactive(chart, anchor), anchor), {})
            group.charts.append({"anchor": anchor, "note": chart.note})
    shown = {
        "title": title, "counts": counts_said(found), "results": found.results, "failed": found.failed,
        "pictures": found.pictures, "left_out": found.left_out, "run": runs_said(found.results), "found": said(groups),
        "doubts": doubts_said(found.results), "tables": tables(found.results, groups), "made": provenance(),
        "charts": packed_json(figures),
        "bokeh": Resources(mode="inline", components=["bokeh"]).render() if figures else "",
        "scripts": "\n".join((FOLDER / name).read_text() for name in SCRIPTS), "charts_drawn": bool(figures),
    }  # fmt: skip
    packages = {**shown["made"]["packages"], "bokeh": bokeh_version}
    shown["versions"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    environment.filters["truncate"] = lambda text, most: text[:most]
    template = environment.get_template("page.html")
    size = len(template.render(**shown, groups=groups).encode())
    pictures = embedded(found.pictures, LARGEST - size)
    for group in groups:
        group.picture = pictures.get(group.name, "")
    if len(pictures) < len(found.pictures):
        shown["left_out"] = [*found.left_out, f"{counted(len(found.pictures), 'picture')}, too large for one file"]
    seen = [group for group in groups if group.charts or group.picture or group.claim or group.findings]
    return template.render(**shown, groups=seen)


def item_of(drawn: figure, anchor: str) -> dict:
    """Return what `bokeh.embed.json_item` does, without its search for callbacks and themes: that takes a fifth longer.

    Every chart is a document of its own: one for all is slow.
    """
    document = Document(title="")
    document.add_root(drawn)
    content = document.to_json(deferred=False)
    return {"target_id": anchor, "root_id": drawn.id, "doc": content, "version": bokeh_version}


def grouped(results: list[Result]) -> list[Group]:
    """Return results by what is shown together: the tables of a figure, else each by itself; own results first."""
    found: dict[str, Group] = {}
    for result in sorted(results, key=lambda each: list(KINDS).index(each.kind)):
        name = result.about if result.kind == TABLE and result.about else result.name
        heading = "Figure" if result.kind == TABLE and result.about else KINDS[result.kind]
        found.setdefault(name, Group(name, heading, [], anchor_of(name, found))).results.append(result)
    return list(found.values())


def counts_said(found: Found) -> str:
    """Return how much there is."""
    pictures = f", {counted(len(found.pictures), 'figure')}" if found.pictures else ""
    return f"{counted(len(found.results), 'result')}{pictures}"


def anchor_of(name: str, others: dict) -> str:
    """Return what a link within the page calls a result."""
    return f"r{len(others)}-{re.sub(r'[^a-zA-Z0-9]+', '-', name).strip('-')}"


def runs_said(results: list[Result]) -> list[str]:
    """Return what was run, on what: a line per command, and one for the sets of logs."""
    commands: dict[str, list[str]] = {}
    for result in results:
        commands.setdefault(result.command, []).append(result.name)
    lines = [f"{named(names)}: {command or 'no command is said'}" for command, names in commands.items()]
    told = [result.table["set"].dropna().unique() for result in results if "set" in result.table]
    sets = dict.fromkeys(str(each) for names in told for each in names)
    return [*lines, f"On {', '.join(name for name in sets if not name.startswith('all'))}."] if sets else lines


def named(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - NAMES_SAID} more" if len(names) > NAMES_SAID else ""
    return f"{', '.join(names[:NAMES_SAID])}{more}"


def said(groups: list[Group]) -> list[tuple[str, str, str]]:
    """Return (name, what was found, anchor) of every group that says something."""
    lines = [(each, each.short if each.claim else " ".join(each.findings[:2])) for each in groups]
    return [(group.name, line, group.anchor) for group, line in lines if line]


def doubts_said(results: list[Result]) -> list[tuple[str, str]]:
    """Return (doubt, names of the results it is about), each doubt once."""
    found: dict[str, list[str]] = {}
    for result in results:
        for line in result.doubts:
            found.setdefault(line, []).append(result.name)
    return [(line, named(names)) for line, names in found.items()]


def tables(results: list[Result], groups: list[Group]) -> list[dict]:
    """Return the tables as the page has them."""
    anchors = {id(result): f"{group.anchor}-{at}" for group in groups for at, result in enumerate(group.results)}
    found = []
    for result in results:
        content, cut = packed(result)
        rows, columns = result.table.shape
        found.append({
            "anchor": anchors[id(result)], "name": result.name, "cut": cut, "packed": content,
            "heading": KINDS[result.kind] if result.kind != TABLE else result.about or "Table",
            "size": f"{counted(rows, 'row')}, {counted(columns, 'column')}",
            "open": result.kind != TABLE and rows <= OPEN_ROWS,
        })  # fmt: skip
    return found
