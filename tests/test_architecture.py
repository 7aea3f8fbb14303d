"""The house rules that a program can check: who imports whom, how long modules are, what they may be called."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("collect", "traces", "simulate", "analysis", "figures")
# What each stage may import of the others; a name with a dot stands for the modules that begin with it.
SIBLINGS = {
    "traces": (),
    "collect": ("traces", "simulate.policies"),
    "simulate": ("traces",),
    "analysis": ("traces", "simulate"),
    "figures": ("traces.command", "traces.errors", "traces.files", "traces.outputs", "traces.provenance"),  # the door
}
# What other packages only certain modules may import. Analysis draws nothing, the simulator knows no statistics.
OUTSIDERS = {
    "torch": ("collect", "traces.importers.torch_file"),  # there lazily: some importers read what torch wrote
    "torchvision": ("collect",),
    "sklearn": ("collect",),
    "simpy": ("simulate",),
    "numba": ("simulate",),
    "llvmlite": ("simulate.compiled",),
    "dask": ("simulate.sweeps.dask_cluster",),
    "distributed": ("simulate.sweeps.dask_cluster",),
    "transformers": ("collect.huggingface",),
    "scipy": ("analysis", "simulate.planning"),
    "pandas": ("analysis", "figures", "collect.quality", "collect.datasets"),
    "matplotlib": ("figures",),
    "seaborn": ("figures",),
}
NAMES_OF_NOTHING = ("utils", "util", "helpers", "helper", "common", "misc")
NAMES_OF_THE_LIBRARY = ("trace", "queue", "random", "types", "statistics", "profile")
LARGEST_MODULE, LARGEST_FUNCTION = 300, 40


def modules(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path):
    """The dotted name of a module: `traces.header`, `simulate` for its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree, module, is_package):
    """The dotted names that a module imports, wherever in it: `from a import b` is `a.b`, relative ones resolved."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            base = parents[: len(parents) + is_package - node.level] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{prefix}.{alias.name}" for alias in node.names]
    return names


def within(name, allowed):
    """Whether a dotted name is one of the allowed ones or stands below one."""
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


def broken_imports(name, found):
    """The imports of a module that its stage is not allowed."""
    stage = name.split(".")[0]
    for target in found:
        top = target.split(".")[0]
        if top in STAGES and top != stage and not within(target, SIBLINGS[stage]):
            yield f"{name} imports {target}: {stage} may import {', '.join(SIBLINGS[stage]) or 'no sibling'}"
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
        ("traces.header", "from traces.errors import InputError", True),
        ("traces.header", "from simulate import engine", False),
        ("traces.header", "import torch", False),
        ("traces.importers.npz", "import torch", False),
        ("traces.importers.torch_file", "def late():\n    import torch", True),
        ("collect.executor", "from simulate.policies.config import RunConfig", True),
        ("collect.executor", "from simulate.policies import config", True),
        ("collect.executor", "from simulate import policies", True),
        ("collect.executor", "from simulate.engine import run", False),
        ("collect.executor", "def late():\n    import analysis.tables", False),
        ("collect.gates.noisy", "from .topk import gate", True),
        ("collect.gates.noisy", "from ...simulate.engine import run", False),
        ("simulate.engine", "import simpy", True),
        ("simulate.engine", "import scipy.stats", False),
        ("analysis.tables", "from simulate.runs import load", True),
        ("analysis.tables", "import matplotlib.pyplot as plt", False),
        ("figures.style", "import traces.errors", True),
        ("figures.style", "import traces.run_records", False),
        ("figures.style", "from traces import selections", False),
        ("figures.style", "import analysis.tables", False),
        ("figures.style", "from seaborn import set_theme", True),
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


# What stands in these may be another tomorrow, in numba as in llvmlite.
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
        for names, why in ((NAMES_OF_NOTHING, "says nothing"), (NAMES_OF_THE_LIBRARY, "shadows the standard library")):
            if path.stem in names:
                broken.append(f"{name_of(path)}: the name {why}")
    assert not broken, "\n".join(broken)


def test_functions_are_short():
    broken, lengths = [], []
    for path in modules(*STAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lengths.append(body[-1].end_lineno - body[0].lineno + 1 if body else 0)
                if lengths[-1] > LARGEST_FUNCTION:
                    broken.append(f"{name_of(path)}.{node.name}: {lengths[-1]} lines, allowed {LARGEST_FUNCTION}")
    assert not broken, "\n".join(broken)
    if lengths:
        assert sorted(lengths)[len(lengths) // 2] <= 10


def test_no_two_test_modules_share_a_name():
    """They stand in folders without `__init__`, so that pytest knows them by their name alone."""
    names = [path.name for path in modules("tests") if path.name != "conftest.py"]
    assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
    assert not {Path(name).stem for name in names} & {*sys.stdlib_module_names, *STAGES}


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


def test_packages_in_the_settings_are_the_folders():
    """A folder that is forgotten there is missing from an installation, though not from a checkout."""
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    assert listed == {name_of(path) for path in modules(*STAGES) if path.name == "__init__.py"} | (
        listed & {stage for stage in STAGES if not modules(stage)}
    )
