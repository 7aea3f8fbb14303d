"""The figures layer_costs and links: what is drawn is what the tables say."""

from matplotlib.axes import Axes

from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one


def panels(tables, name):
    return [axes for axes in draw_one(name, TableFiles(tables)).findobj(Axes) if axes.get_title(loc="left")]


def test_a_row_of_panels_per_device_and_a_curve_per_shape(tables):
    (cpu, per_token, cpu_step, gpu, _, gpu_step) = panels(tables, "layer_costs")
    assert cpu.get_title(loc="left").startswith("cpu-toy/cifar10\nan expert's batch alone")
    drawn = {line.get_label(): line.get_ydata().tolist() for line in cpu.lines}
    assert drawn["large"] == [50.625, 60, 210]  # by the wall clock, where there are no events
    assert {line.get_label(): line.get_ydata().tolist() for line in gpu.lines}["large"] == [30.625, 40, 190]
    assert len(cpu.lines) == 2 * 2
    assert cpu.get_xscale() == cpu.get_yscale() == "log"
    assert {text.get_text() for text in per_token.texts} == {"breaks even at\n80 tokens"}
    assert "no grouped product here" in [text.get_text() for text in cpu_step.texts]
    assert (len(cpu_step.lines), len(gpu_step.lines)) == (2, 4)


def test_links_are_drawn_as_measured_and_as_fitted(tables):
    for axes in panels(tables, "links"):
        kinds = ("pinned, 1", "pinned, 4", "pageable, 1")
        assert axes.get_legend_handles_labels()[1] == [f"{kind} at once: 10 GB/s, 10 us" for kind in kinds]
        dotted = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None"]
        assert [10.1, 110] in [line.get_ydata().tolist() for line in dotted]
