"""One package, five ways to run it: checkout, `python -m moe_replay.STAGE`, wheel, editable install, script."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from moe_replay.traces.shipped import shipped_costs, shipped_served

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("traces", "collect", "simulate", "analysis", "figures")
MADE = ("make", "t.trace.parquet", "--sequences", "2")
# What a process says of itself once a command has run: which modules it has, and from where.
TOLD = f"""
import atexit, sys

def tell():
    bare = sorted(name for name in sys.modules if name.partition(".")[0] in {STAGES} and "." in name)
    print("bare:", ",".join(bare), "package:", sys.modules["moe_replay"].__file__)

atexit.register(tell)
"""
# An editable install looks for its package behind all others: behind one of this Python's own, if there is one.
FIRST = """
import site, sys
finders, paths = len(sys.meta_path), len(sys.path)
site.addsitedir({!r})
sys.meta_path[:0], sys.path[:0] = sys.meta_path[finders:], sys.path[paths:]
"""


def named_files():
    """What commands find by name among the logs, of which an installation has nothing else."""
    return [path.relative_to(ROOT) for found in (shipped_costs(), shipped_served()) for path in found.values()]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of what an installation is built from, since building leaves files behind."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("moe_replay.py", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for stage in STAGES:
        shutil.copytree(ROOT / stage, copy / stage, ignore=shutil.ignore_patterns("data", "*.png", "__pycache__"))
    for path in named_files():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy / path)
    return copy


@pytest.fixture(scope="module")
def installed(sources, tmp_path_factory):
    """Return a function (wheel or editable) -> the folder into which that was installed."""
    pytest.importorskip("setuptools", minversion="77")
    folders = {}

    def install(kind):
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            build = f"from setuptools.build_meta import build_{kind} as build; build({str(folders[kind])!r})"
            done = subprocess.run([sys.executable, "-c", build], cwd=sources, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            (built,) = folders[kind].glob("*.whl")
            zipfile.ZipFile(built).extractall(folders[kind])
            built.unlink()
        return folders[kind]

    return install


@pytest.fixture
def elsewhere(tmp_path):
    """A folder whose owner has a traces.py, which is theirs and not ours."""
    (tmp_path / "traces.py").write_text("raise AssertionError('this is another traces')\n")
    return tmp_path


def run(folder, paths, *words, site=None):
    """Run Python with these words; paths on its search path, `site` as a folder of installed packages."""
    told = folder / "told"
    told.mkdir(exist_ok=True)
    added = FIRST.format(str(site)) if site else ""
    (told / "sitecustomize.py").write_text(added + TOLD)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [told, *paths])), "COLUMNS": "120"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, _, origin = done.stdout.rpartition("bare:")
    bare, _, package = origin.partition("package:")
    assert not bare.strip(), "modules were imported twice, with and without the package's name"
    return said, Path(package.strip())


def script(folder):
    """The console script, as an installation writes it."""
    path = folder / "moe-replay"
    path.write_text("import sys\nfrom moe_replay import main\nsys.exit(main())\n")
    return path


def test_a_checkout_runs_its_folders(tmp_path):
    shutil.copy(ROOT / "moe_replay.py", tmp_path)
    (tmp_path / "traces").symlink_to(ROOT / "traces")
    said, package = run(tmp_path, [], "-m", "traces", *MADE)
    assert "t.trace.parquet" in said
    assert package == tmp_path / "moe_replay.py"


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_a_module_by_two_names(stage, tmp_path):
    if stage == "collect":
        pytest.importorskip("torch")
    run(tmp_path, [ROOT], "-m", stage, "--help")


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_an_installation_runs_beside_a_file_of_the_same_name(kind, installed, sources, elsewhere):
    paths, site = ([installed(kind)], None) if kind == "wheel" else ([], installed(kind))
    said, package = run(elsewhere, paths, "-m", "moe_replay.traces", *MADE, site=site)
    assert "t.trace.parquet" in said
    home = installed(kind) / "moe_replay" / "__init__.py" if kind == "wheel" else sources / "moe_replay.py"
    assert package == home
    said, _ = run(elsewhere, paths, script(elsewhere), "traces", "check", "t.trace.parquet", site=site)
    assert said.startswith("t.trace.parquet")


def test_a_wheel_puts_one_package_on_a_machine(installed):
    names = {path.name for path in installed("wheel").iterdir()}
    assert names == {"moe_replay", f"moe_replay-{version()}.dist-info"}
    made = {path.relative_to(installed("wheel") / "moe_replay") for path in installed("wheel").rglob("*.py")}
    ours = {path.relative_to(ROOT) for stage in STAGES for path in (ROOT / stage).rglob("*.py")}
    assert made == {Path("__init__.py"), *ours}
    page = {path.name for path in (ROOT / "figures" / "report").iterdir() if path.suffix in (".html", ".js")}
    assert page <= {path.name for path in (installed("wheel") / "moe_replay" / "figures" / "report").iterdir()}
    assert len(page) > 2
    shipped = installed("wheel") / "moe_replay" / "figures" / "shipped"  # without them the live page would not begin
    assert {path.name for path in shipped.iterdir()} == {"fidelity.csv", "fidelity_repeatability.csv"}
    assert named_files()
    assert [path for path in named_files() if not (installed("wheel") / "moe_replay" / path).exists()] == []
    assert (installed("wheel") / "moe_replay" / "py.typed").read_bytes() == b""  # PEP 561: it has type hints
    assert "moe_replay/py.typed," in next(installed("wheel").glob("*.dist-info/RECORD")).read_text()


def test_nothing_needs_modules_that_only_some_systems_have(tmp_path):
    """Every module but those of torch is imported, and a command run, where Python lacks what Windows lacks."""
    lacking = ("fcntl", "grp", "pwd", "resource", "termios")
    code = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({lacking}))
for stage in {tuple(stage for stage in STAGES if stage != "collect")}:
    package = importlib.import_module("moe_replay." + stage)
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
from moe_replay.traces.command_line.memory_room import check_room
check_room("bytes", 1, 1)
sys.argv[1:] = {list(MADE)}
from moe_replay.traces.__main__ import app
app(standalone_mode=False)
"""
    said, _ = run(tmp_path, [ROOT], "-c", code)
    assert "t.trace.parquet" in said


def version():
    import moe_replay

    return moe_replay.__version__


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--version"], 0, f"moe-replay {version()}"),
        ([], 0, "stages: traces, collect, simulate, analysis, figures"),
        (["trace"], 2, "unknown stage 'trace'; known: traces, collect, simulate, analysis, figures"),
        (["traces", "mke"], 2, "No such command 'mke'"),
    ],
)
def test_the_script_says_its_version_and_its_stages(words, status, says, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script(tmp_path), *words], env=environment, capture_output=True, text=True)
    assert done.returncode == status
    assert says in done.stdout + done.stderr


def test_importing_the_package_is_quick_and_harmless():
    code = "import sys; import moe_replay; print(sorted({'numpy', 'matplotlib', 'numba', 'torch'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("stage", ["traces", "simulate"])
def test_a_command_does_not_wait_for_packages_that_few_commands_need(stage):
    late = {"scipy.optimize", "pandas", "matplotlib", "torch", "numba", "bokeh", "perfetto", "gguf", "dask"}
    code = f"import sys; import moe_replay.{stage}.__main__; print(sorted({late!r} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
