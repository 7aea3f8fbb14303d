"""May I believe it? Executed against simulated, with what the machine itself varies by as a band."""

from __future__ import annotations

from bokeh.layouts import column
from bokeh.models import BoxAnnotation, ColumnDataSource, Div, HoverTool, Select, Span, TabPanel
from bokeh.plotting import figure

from moe_replay.analysis.tables.fidelity.repeatability import own_percent, repeatability_sentence
from moe_replay.analysis.tables.fidelity.rows import fidelity_claim, fidelity_summary
from moe_replay.figures.live import page_style as style
from moe_replay.figures.live.page_inputs import PageInputs

QUESTION = "May I believe it?"
EXPLAINED = (
    "Every dot is a run that was executed on real weights and simulated. The band is what the machine itself differs "
    "by when it runs the same twice: inside it no simulator can be told from the machine. Hover over a dot for its "
    "batches."
)
METRICS = {"throughput": "throughput, passes/s", "latency_p50": "median latency, ms", "latency_p95": "p95 latency, ms"}
EQUAL = {"yes": "batches are the executed ones, member for member", "no": "batches differ",
         "n.a.": "order depends on durations: batches cannot be compared"}  # fmt: skip
MARKS = "Circles ran exactly the simulated batches, crosses did not; of triangles the order depends on durations."
MARKERS = {"yes": "circle", "no": "x", "n.a.": "triangle"}
SWING = 2.0  # standard deviations either way that the band is wide: about 95 % of runs
COLUMNS = ("executed", "simulated", "error", "run", "set", "colour", "marker", "equal", "difference")


class FidelityScreen:
    """The fifth screen: the tables of the shipped runs, or of a folder of tables."""

    def __init__(self, inputs: PageInputs) -> None:
        self.table, self.own = inputs.executed[inputs.executed["status"] == "ok"], own_percent(inputs.repeated)
        where = "The runs that are shipped." if inputs.source.executed is None else f"{inputs.source.executed}."
        claim = fidelity_claim(inputs.executed, fidelity_summary(inputs.executed))["claim"]
        self.metric = Select(title="Of", value="throughput", options=list(METRICS.items()), width=style.CONTROLS_WIDTH)
        sentences = f"{where} {claim}{repeatability_sentence(inputs.repeated)}"
        self.said = Div(text=style.said(sentences), width=style.LEFT_WIDTH + style.WIDTH)
        self.source = ColumnDataSource({name: [] for name in COLUMNS})
        self.figure = self.new_figure()
        style.whenever(self.metric, "value", self.draw)

    def new_figure(self) -> figure:
        """Return the figure: the error of every run against what was executed."""
        made = style.plot("", x_axis_type="log", y_axis_label="simulated over executed, %", width=style.FULL_WIDTH)
        self.band = BoxAnnotation(fill_color=style.GREY, fill_alpha=0.25)
        made.add_layout(self.band)
        made.add_layout(Span(location=0, dimension="width", line_color="black"))
        dots = made.scatter(
            "executed", "error", source=self.source, color="colour", marker="marker", size=9, alpha=0.7,
            legend_field="set",
        )  # fmt: skip
        said = [
            ("run", "@run"), ("set", "@set"), ("executed", "@executed{0,0.00}"), ("simulated", "@simulated{0,0.00}"),
            ("simulated over executed", "@error{+0.0} %"), ("batches", "@equal"), ("", "@difference"),
        ]  # fmt: skip
        made.add_tools(HoverTool(tooltips=said, renderers=[dots]))
        made.add_layout(made.legend[0], "below")
        made.legend[0].orientation = "horizontal"
        return made

    @property
    def panel(self) -> TabPanel:
        """The screen as a tab."""
        parts = [self.metric, self.said, self.figure, Div(text=style.said(MARKS), width=style.WIDTH)]
        return TabPanel(child=column(style.heading(QUESTION, EXPLAINED), *parts), title=QUESTION)

    def start(self) -> None:
        """Draw the tables."""
        self.draw()

    def draw(self) -> None:
        """Draw the errors of one metric."""
        metric = self.metric.value
        rows = self.table[self.table[f"{metric}_error_percent"].notna()]
        sets = list(dict.fromkeys(rows["set"]))
        colours = {name: style.CYCLE[place % len(style.CYCLE)] for place, name in enumerate(sets)}
        self.source.data = {
            "executed": list(rows[f"executed_{metric}"]), "simulated": list(rows[f"simulated_{metric}"]),
            "error": list(rows[f"{metric}_error_percent"]), "run": list(rows["run"]), "set": list(rows["set"]),
            "colour": [colours[name] for name in rows["set"]], "marker": [MARKERS[each] for each in rows["identical"]],
            "equal": [EQUAL[each] for each in rows["identical"]],
            "difference": [each if isinstance(each, str) else "" for each in rows["first_difference"]],
        }  # fmt: skip
        self.band.visible = metric == "throughput" and self.own == self.own
        if self.band.visible:
            self.band.bottom, self.band.top = -SWING * self.own, SWING * self.own
        self.figure.xaxis.axis_label = f"executed {METRICS[metric]}"
        self.figure.title.text = "Above 0 the simulator promises more than the machine gave"
