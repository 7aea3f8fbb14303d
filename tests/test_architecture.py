"""The house rules that a program can check: who imports whom, how long modules are, what they may be called."""

import ast
import re
import sys
from pathlib import Path

import pytest

from moe_replay.figures.gallery import FIGURES, table_of

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "moe_replay"
STAGES = ("collect", "traces", "simulate", "analysis", "figures")  # named here as folders, imported as moe_replay.STAGE
# What each stage may import of the others; a name with a dot means the modules that begin with it.
SIBLINGS = {
    "traces": (),
    "collect": ("traces", "simulate.config", "simulate.policies", "simulate.ordering"),
    "simulate": ("traces",),
    # What the simulator was asked, and how it names things; it runs nothing here: stages meet on disk.
    "analysis": (
        "traces",
        "simulate.config",
        "simulate.policies.rule_names",
        "simulate.policies.memory.knowledge_source",
        "simulate.policies.memory.swap_scheduler",
        "simulate.placing.cluster_shape",
        "simulate.placing.planners.smartmoe",
        "simulate.sweeps.regret",
    ),
    # One command draws what another just wrote: analysis makes the tables of such a folder on the way.
    "figures": ("traces.command_line", "traces.errors", "analysis.results"),
    # The live page alone asks the simulator, since it answers while one looks: no file lies between the stages there.
    # It combines seeds and words findings by the functions of the tables, so that both say the same.
    "figures.live": (
        "traces",
        "simulate",
        "analysis.estimates",
        "analysis.tables.fidelity",
        "analysis.tables.lost_mass",
    ),
}
# What other packages only certain modules may import. Analysis draws nothing, the simulator knows no statistics.
OUTSIDERS = {
    "torch": ("collect", "traces.importers.reading.torch_file"),  # there lazily: some importers read what torch wrote
    "torchvision": ("collect",),
    "sklearn": ("collect",),
    "simpy": ("simulate",),
    "numba": ("simulate",),
    "llvmlite": ("simulate.compiled",),
    "perfetto": ("simulate.timeline.perfetto_file",),
    "dask": ("simulate.sweeps.dask_cluster",),
    "distributed": ("simulate.sweeps.dask_cluster",),
    "transformers": ("collect.huggingface",),
    "scipy": ("analysis", "simulate.ordering", "simulate.placing", "simulate.planning", "simulate.rebalancing"),
    "pandas": ("analysis", "figures", "simulate.interface", "collect.studies.accuracy_vs_k_study", "collect.datasets"),
    "matplotlib": ("figures",),
    "bokeh": ("figures",),
    "jinja2": ("figures",),
    "fcntl": (),  # is not there on every system: filelock is
    "seaborn": ("figures",),
}
NAMES_OF_NOTHING = ("utils", "util", "helpers", "helper", "common", "misc")
LARGEST_MODULE, LARGEST_FUNCTION, LARGEST_FOLDER = 300, 40, 20
# Where a module's name may be used again, since it means the same there: (pattern of a dotted name, what it means).
SAME_THING = (
    (r"\w+\.__main__", "a command line"),
    (r"(?:simulate\.policies|figures(?:\.devices)?|analysis\.tables)\.(placement)", r"the \1 of experts on devices"),
    (r"(?:simulate\.policies|simulate\.compiled)\.(.+)", r"the rule \1"),
    (r"figures\.\w+\.(\w+)|analysis\.tables\.(\w+)|traces\.glossary\.(locality)", r"the figure \1\2\3"),
    (r"traces\.(?:glossary\.)?(selections)", r"the \1"),
    (r"analysis\.tables\.\w+\.(rows|build|claim)", r"\1 of a figure"),
    (r"(?:traces\.(?:importers|exporters)|simulate\.placing\.planners)\.(\w+)", r"the program \1"),
)


def modules(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path):
    """The dotted name of a module in the package: `traces.header`, `simulate` for its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree, module, is_package):
    """The dotted names that a module imports, wherever in it: `from a import b` is `a.b`, relative ones resolved."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [in_package(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            base = parents[: len(parents) + is_package - node.level] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            full = f"{PACKAGE}.{prefix}" if node.level else prefix
            names += [in_package(f"{full}.{alias.name}") for alias in node.names]
    return names


def in_package(name):
    """A module's name without the package's; a stage that is imported by its bare name is told apart."""
    if name.split(".")[0] in STAGES:
        return f"bare.{name}"
    return name.removeprefix(f"{PACKAGE}.")


def within(name, allowed):
    """Whether a dotted name is one of the allowed ones or below one."""
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


def allowed_siblings(name):
    """What a module may import of other stages: what the longest key that its name begins with says."""
    return SIBLINGS[max((key for key in SIBLINGS if within(name, (key,))), key=len)]


def broken_imports(name, found):
    """The imports of a module that its stage is not allowed."""
    stage, siblings = name.split(".")[0], allowed_siblings(name)
    for target in found:
        top = target.split(".")[0]
        if top == "bare":
            yield f"{name} imports {target}: import {PACKAGE}.{target.removeprefix('bare.')}"
        if top in STAGES and top != stage and not within(target, siblings):
            yield f"{name} imports {target}: {stage} may import {', '.join(siblings) or 'no sibling'}"
        if top in OUTSIDERS and not within(name, OUTSIDERS[top]):
            yield f"{name} imports {target}: only {', '.join(OUTSIDERS[top])} may"


def test_stages_import_only_what_they_may():
    broken = []
    for path in modules(*STAGES):
        found = imported(ast.parse(path.read_text()), name_of(path), path.name == "__init__.py")
        broken += broken_imports(name_of(path), found)
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("module", "line", "allowed"),
    [
        ("traces.header", "import numpy", True),
        ("traces.header", "from moe_replay.traces.errors import InputError", True),
        ("traces.header", "from traces.errors import InputError", False),
        ("traces.header", "from moe_replay.simulate import engines", False),
        ("traces.header", "import torch", False),
        ("traces.importers.npz", "import torch", False),
        ("traces.importers.reading.torch_file", "def late():\n    import torch", True),
        ("collect.execution.executor", "from moe_replay.simulate.config.run_config import RunConfig", True),
        ("collect.execution.executor", "from moe_replay.simulate.config import run_config", True),
        ("collect.execution.executor", "from moe_replay.simulate import policies", True),
        ("collect.execution.executor", "from moe_replay.simulate.engines.simpy_engine import simulate", False),
        ("collect.execution.executor", "def late():\n    import moe_replay.analysis.tables", False),
        ("collect.execution.executor", "def late():\n    import analysis", False),
        ("collect.gates.noisy", "from .topk import gate", True),
        ("collect.gates.noisy", "from ...simulate.engines import run", False),
        ("simulate.engines.simpy_engine", "import simpy", True),
        ("simulate.engines.simpy_engine", "import scipy.stats", False),
        ("analysis.tables", "from moe_replay.simulate.config.run_config import RunConfig", True),
        ("analysis.tables", "from moe_replay.simulate.misses.miss_tables import miss_rows", False),
        ("analysis.tables", "from moe_replay.simulate.engines.engine_choice import simulate", False),
        ("analysis.tables", "import matplotlib.pyplot as plt", False),
        ("figures.drawing.style", "import moe_replay.traces.errors", True),
        ("figures.drawing.style", "import moe_replay.traces.runs.run_records", False),
        ("figures.drawing.style", "from moe_replay.traces import selections", False),
        ("figures.report.report_page", "from moe_replay.analysis.results.result import Result", True),
        ("figures.drawing.style", "import moe_replay.analysis.tables", False),
        ("figures.drawing.style", "from seaborn import set_theme", True),
        ("figures.live.questions", "from moe_replay.simulate.answers.run_answer import answered", True),
        ("figures.live.questions", "from moe_replay.analysis.table_builds import BUILDS", False),
        ("figures.live_page", "from moe_replay.simulate.answers.run_answer import answered", False),
    ],
)
def test_the_rule_itself_tells_right_from_wrong(module, line, allowed):
    assert (not list(broken_imports(module, imported(ast.parse(line), module, False)))) == allowed


def test_simpy_stands_in_few_modules_of_the_simulator():
    """The reference engine alone: policies, costs and records do not know what drives them."""
    found = {
        name_of(path)
        for path in modules("simulate")
        if any(
            target.split(".")[0] == "simpy" for target in imported(ast.parse(path.read_text()), name_of(path), False)
        )
    }
    assert not any(name.startswith("simulate.policies") for name in found)
    assert len(found) <= 3


# What these hold may be another tomorrow, in numba as in llvmlite.
PRIVATE = re.compile(r"numba\.(core|cpython|misc|np|parfors)\b|(numba|llvmlite)\..*\b_")


def test_numba_is_used_by_its_public_interface():
    found = [
        f"{name_of(path)} imports {target}"
        for path in modules(*STAGES)
        for target in imported(ast.parse(path.read_text()), name_of(path), False)
        if PRIVATE.match(target)
    ]
    assert not found, "\n".join(found)


def test_what_is_private_in_numba_is_told_from_what_is_public():
    for name in ("numba.core.registry.CPUDispatcher", "numba.core", "numba.np.arrayobj", "numba.extending._Intrinsic"):
        assert PRIVATE.match(name)
    for name in ("numba.njit", "numba.types.Array", "numba.extending.intrinsic", "llvmlite.ir.Constant", "numbers.x"):
        assert not PRIVATE.match(name)


def test_importing_a_stage_imports_nothing_heavy():
    """A folder's `__init__` holds a docstring, at most the table of names of its own folder."""
    for path in modules(*STAGES):
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text())
            assert ast.get_docstring(tree), f"{name_of(path)} has no docstring"
            for target in imported(tree, name_of(path), True):
                outside = target.split(".")[0] in {*OUTSIDERS, "numpy", "pyarrow"}
                assert not outside, f"{name_of(path)} imports {target}"


def test_modules_are_short_documented_and_well_named():
    broken = []
    for path in modules(*STAGES):
        text = path.read_text()
        lines = len(text.splitlines())
        if lines > LARGEST_MODULE:
            broken.append(f"{name_of(path)} has {lines} lines, allowed {LARGEST_MODULE}")
        if not ast.get_docstring(ast.parse(text)):
            broken.append(f"{name_of(path)} has no docstring")
        if {*name_of(path).split(".")} & {*NAMES_OF_NOTHING}:
            broken.append(f"{name_of(path)}: the name says nothing")
        if {*name_of(path).split(".")} & ({*sys.stdlib_module_names} - {"__main__"}):
            broken.append(f"{name_of(path)}: the name shadows the standard library")
    assert not broken, "\n".join(broken)


def meaning(name):
    """What a module's last name means: the same in mirrored folders, else in this place alone."""
    for pattern, said in SAME_THING:
        if found := re.fullmatch(pattern, name):
            return found.expand(said)
    return name


def test_one_name_means_one_thing():
    meanings = {}
    for path in modules(*STAGES):
        if path.name != "__init__.py":
            meanings.setdefault(path.stem, set()).add(meaning(name_of(path)))
    assert not {name: each for name, each in meanings.items() if len(each) > 1}


def test_a_figure_its_table_and_its_word_share_a_name():
    from moe_replay.analysis.table_builds import BUILDS

    figures = {table_of(figure) for figure in FIGURES}
    tables = {path.stem for path in (ROOT / "analysis" / "tables").iterdir()}
    assert figures <= BUILDS.keys()
    assert BUILDS.keys() <= tables


def test_folders_are_small():
    sizes = {}
    for path in modules(*STAGES, "tests"):
        if path.name != "__init__.py":
            sizes.setdefault(path.parent, []).append(path.name)
    assert not {folder: len(names) for folder, names in sizes.items() if len(names) > LARGEST_FOLDER}


def import_graph():
    """{module: the modules of the package that it imports, for types only or late as well}."""
    paths = {name_of(path): path for path in modules(*STAGES)}
    graph = {}
    for name, path in paths.items():
        found = imported(ast.parse(path.read_text()), name, path.name == "__init__.py")
        graph[name] = {each if each in paths else each.rpartition(".")[0] for each in found} & paths.keys() - {name}
    return graph


def in_circles(graph):
    """The modules that can be reached from themselves: what no order of importing serves."""
    left = {name: set(targets) for name, targets in graph.items()}
    for turned in (False, True):  # who imports nothing that is left goes, then who is imported by nobody left
        while free := {name for name, targets in left.items() if not targets & left.keys()}:
            left = {name: targets for name, targets in left.items() if name not in free}
        if not turned:
            left = {name: {other for other, targets in left.items() if name in targets} for name in left}
    return set(left)


def test_imports_go_round_in_no_circle():
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == {"b", "c"}
    assert not in_circles(import_graph())


def test_functions_are_short():
    """All of a function counts: its decorators, its signature and its docstring."""
    broken, lengths = [], []
    for path in modules(*STAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min(each.lineno for each in (node, *node.decorator_list))
                lengths.append(node.end_lineno - first + 1)
                if lengths[-1] > LARGEST_FUNCTION:
                    broken.append(f"{name_of(path)}.{node.name}: {lengths[-1]} lines, allowed {LARGEST_FUNCTION}")
    assert not broken, "\n".join(broken)
    if lengths:
        assert sorted(lengths)[len(lengths) // 2] <= 10


def test_no_two_test_modules_share_a_name():
    """They are in folders without `__init__`, so that pytest knows them by their name alone."""
    names = [path.name for path in modules("tests") if path.name != "conftest.py"]
    assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
    assert not {Path(name).stem for name in names} & {*sys.stdlib_module_names, *STAGES}


def test_rooms_of_tests_are_rooms_of_the_code():
    """Folders of tests are on the path: one named `datasets` would hide a library of that name."""
    rooms = {path.parent.relative_to(ROOT / "tests") for path in modules("tests")}
    others = {Path("benchmarks"), Path("collect/data_sets")}
    assert others <= rooms
    assert not [room for room in rooms - others if not (ROOT / room).is_dir()]


def texts():
    """Everything a person wrote here: sources, pages, settings."""
    kinds = {".py", ".md", ".toml", ".sh", ".cff", ".yml", ".yaml", ".cfg", ".txt"}
    hidden = {path for path in (ROOT / ".ci").glob("*") if path.is_file()}
    listed = {path for path in ROOT.iterdir() if path.suffix in kinds}
    return sorted(listed | hidden | set(modules(*STAGES, "tests")))


def test_no_paths_of_one_machine():
    """A path that starts at a machine's root means nothing on another; system folders are the exception."""
    machines = re.compile(r"""(?<![\w.~/*-])/(home|root|work|Users|mnt|data|scratch|workspace|opt|media|nfs)/[\w.-]""")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if machines.search(line)
    ]
    assert not found, "\n".join(found)


def test_every_folder_of_code_is_a_package():
    """An installation takes the folders that have an `__init__`; a folder without one works in a checkout alone."""
    assert not [path.parent for path in modules(*STAGES) if not (path.parent / "__init__.py").exists()]


# What makes a number out of several. Least and most are for the ends of axes, a quantile for those of a colour scale.
NUMBERS_OF_SEVERAL = (
    *("mean", "median", "std", "var", "sem", "sum", "cumsum", "average", "percentile", "interp", "polyfit"),
    *("agg", "aggregate", "apply", "transform", "rolling", "corr", "pct_change"),
)


def computed(tree):
    """The calls in a module that make a number out of several."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [func.attr for func in calls if isinstance(func, ast.Attribute) and func.attr in NUMBERS_OF_SEVERAL]


def test_figures_compute_nothing():
    found = {name_of(path): computed(ast.parse(path.read_text())) for path in modules("figures")}
    assert not {name: calls for name, calls in found.items() if calls}


def test_a_mean_in_a_figure_would_be_noticed():
    assert computed(ast.parse("own.groupby('epoch')['accuracy'].mean()\nnp.interp(1, x, y)")) == ["mean", "interp"]
