"""The READMEs: their examples run, what they show is what is printed, and what they point at exists."""

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import readme_tree
import typer

from moe_replay.figures.gallery import FIGURES

ROOT = Path(__file__).resolve().parent.parent
READMES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *ROOT.glob("[a-z]*/README.md")))
MOST_LINES = 200
STAND_INS = ("DEVICE", "NAME", "KIND")  # words of a path that a reader replaces
NOT_RUN = ("./RUNME.sh", "pip ")  # what installs, or takes minutes
NEEDS = {"collect": "torch"}  # what a room's commands need beside the packages of every room
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a README: its language, its text, and whether only blank lines part it from the one before."""

    language: str
    text: str
    follows: bool


@dataclass(frozen=True)
class Example:
    """The commands of one block, and the lines that the last of them has to print, in this order."""

    commands: tuple[str, ...]
    shown: tuple[str, ...]


def text_of(readme):
    return (ROOT / readme).read_text()


def blocks(text):
    found, end = [], 0
    for match in FENCE.finditer(text):
        found.append(Block(match[1], match[2], not text[end : match.start()].strip()))
        end = match.end()
    return found


def examples(text):
    """The blocks of shell commands; a block of text right behind one shows what its last command prints."""
    found = []
    for block, after in pairwise([*blocks(text), Block("", "", False)]):
        if block.language != "sh":
            continue
        lines = [line.split("  #")[0].strip() for line in block.text.splitlines()]
        commands = tuple(line for line in lines if line and not line.startswith(("#", *NOT_RUN)))
        shown = after.text.splitlines() if after.language == "text" and after.follows else []
        found.append(Example(commands, tuple(line for line in shown if line.strip())))
    return [example for example in found if example.commands]


def write_files(text, folder):
    """Write the files whose source a README shows: a block of Python that begins with `# NAME.py`."""
    for block in blocks(text):
        if block.language == "python" and (name := re.match(r"# (\w+\.py)\n", block.text)):
            (folder / name[1]).write_text(block.text[name.end() :])


def run(words, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "MPLBACKEND": "Agg"}
    return subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def absent(shown, printed):
    """The first shown line that is not printed behind those before it; widths of columns do not count."""
    lines = iter([line.split() for line in printed.splitlines()])
    return next((line for line in shown if line.split() not in lines), None)


@pytest.mark.parametrize("readme", [readme for readme in READMES if examples(text_of(readme))])
def test_examples_run_in_order_and_print_what_is_shown(readme, tmp_path):
    text = text_of(readme)
    write_files(text, tmp_path)
    for example in examples(text):
        for command in example.commands:
            words = shlex.split(command)
            assert words[0] == "python", f"{readme}: {command}: examples in sh begin with python"
            room = words[2] if words[1] == "-m" else None
            if (need := NEEDS.get(room)) and importlib.util.find_spec(need) is None:
                pytest.skip(f"{need} is not installed")
            done = run(words, tmp_path)
            assert done.returncode == 0, f"{readme}: {command}\n{done.stdout}\n{done.stderr}"
        missed = absent(example.shown, done.stdout)
        assert missed is None, f"{readme}: {example.commands[-1]} does not print {missed!r}, but\n{done.stdout}"


def test_the_python_interface_is_as_shown(tmp_path):
    text = text_of("README.md")
    (code,) = [block.text for block in blocks(text) if block.language == "python" and "import moe_replay" in block.text]
    making = next(each for example in examples(text) for each in example.commands if "make toy.trace.parquet" in each)
    (profile,) = ROOT.glob("traces/data/*/text/swap-profile.csv")
    (tmp_path / "swap-profile.csv").write_bytes(profile.read_bytes())
    assert run(shlex.split(making), tmp_path).returncode == 0
    done = run(["python", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    for said in ("queues-B032-closed64-s0: ok", "belady", "Empty DataFrame", "exact"):
        assert (said in done.stdout) == (said != "Empty DataFrame"), done.stdout


def test_examples_and_outputs_are_found():
    found = examples(text_of("README.md"))
    assert sum(len(example.commands) for example in found) >= 8
    assert sum(bool(example.shown) for example in found) >= 4
    assert absent(("a 1", "c  3"), "a  1\nb 2\nc 3\n") is None
    assert absent(("c 3", "a 1"), "a  1\nb 2\nc 3\n") == "a 1"
    assert absent(("a 1 b",), "a  1\nb 2\n") == "a 1 b"


def test_the_first_readme_is_read_in_one_sitting():
    assert len(text_of("README.md").splitlines()) <= MOST_LINES


def headings(readme):
    """The headings of a README; those of a longer name count under what is before the colon, too."""
    found = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(readme)), flags=re.MULTILINE)
    return {*found, *(name.partition(":")[0] for name in found)}


def anchor(heading):
    """A heading as the part of a link behind `#`: words in lower case, with hyphens."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("readme", READMES)
def test_links_lead_to_files_and_sections(readme):
    for link, section in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text_of(readme)):
        target = (ROOT / readme).parent.joinpath(link) if link else ROOT / readme
        assert target.exists(), f"{readme}: {link}"
        assert not section or section in map(anchor, headings(target)), f"{readme}: {link}#{section}"


def sources():
    """Every file of code and script that is written by hand."""
    return [*ROOT.glob("*.py"), *(path for room in READMES[1:] for path in (ROOT / room).parent.rglob("*.py"))]


def test_sections_that_sources_point_to_exist():
    """A docstring names the README of a room and the section behind it in brackets, for nobody knows "the README"."""
    pointed = 0
    for path in sources():
        for readme, section in re.findall(r"""([\w/.]*README[\w.]*),? \(["']([^"']+)["']\)""", path.read_text()):
            assert readme in READMES, f"{path.relative_to(ROOT)}: {readme} ({section})"
            assert section in headings(readme), f"{path.relative_to(ROOT)}: {readme} has no section {section}"
            pointed += 1
        if not path.is_relative_to(ROOT / "tests"):
            loose = re.search(r"README(?!\.md\b)", path.read_text())
            assert loose is None, f"{path.relative_to(ROOT)}: which README? Write ROOM/README.md"
    assert pointed  # else the pattern finds none any more


@pytest.mark.parametrize("readme", READMES)
def test_paths_of_the_sources_exist(readme):
    rooms = "|".join((*readme_tree.ROOMS, "tests"))
    paths = re.findall(rf"`((?:{rooms})/[\w/*.-]*)`", text_of(readme))
    named = [path for path in paths if not any(word in path for word in STAND_INS)]
    missing = [path for path in named if not list(ROOT.glob(path.rstrip("/")))]
    modules = re.findall(rf"`((?:{rooms})(?:\.\w+)+)`", text_of(readme))
    missing += [name for name in modules if not module_or_name(name)]
    assert not missing


def module_or_name(dotted):
    """Whether `a.b.c` is a module, a package, or a name in the module `a.b`."""
    path = ROOT.joinpath(*dotted.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module = path.parent.with_suffix(".py")
    return module.exists() and re.search(rf"\b{path.name}\b", module.read_text()) is not None


def test_every_room_has_a_readme_that_the_first_one_links():
    for room in (*readme_tree.ROOMS, "tests"):
        assert f"]({room}/README.md)" in text_of("README.md")


@pytest.mark.parametrize("readme", sorted(readme_tree.trees()))
def test_trees_are_those_of_the_sources(readme):
    tree = readme_tree.trees()[readme]
    if os.environ.get("MOE_REPLAY_WRITE_TREE") == "1":
        readme_tree.write(readme, tree)
    assert readme_tree.shown(readme) == tree, "MOE_REPLAY_WRITE_TREE=1 pytest tests/test_readme.py -k trees writes it"


def commands_of(stage):
    """A stage's commands with their help, by name."""
    entry = importlib.import_module(f"{stage}.__main__")
    command = typer.main.get_command(entry.application() if stage == "collect" else entry.app)
    return command.commands


@pytest.mark.parametrize("readme", READMES)
def test_commands_that_are_named_exist(readme):
    named = re.findall(r"python -m (traces|collect|simulate|analysis) ([a-z][a-z-]*)", text_of(readme))
    for stage, command in sorted(set(named)):
        if (need := NEEDS.get(stage)) is None or importlib.util.find_spec(need):
            assert command in commands_of(stage)


def rows_named(text):
    """What the tables of a README have rows of: the names in code of each row's first cell, commands without words."""
    cells = re.findall(r"^\| (.+?) \|", FENCE.sub("", text), flags=re.MULTILINE)
    return {code.split(" ")[0] for cell in cells for code in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize("stage", ["collect", "simulate", "analysis", "figures"])
def test_every_command_has_a_row_in_its_rooms_readme(stage):
    if need := NEEDS.get(stage):
        pytest.importorskip(need)
    lacking = set(commands_of(stage)) - rows_named(text_of(f"{stage}/README.md")) - {"fresh"}  # a section of its own
    assert not lacking


def test_every_figure_has_a_row_in_the_gallery():
    assert set(FIGURES) <= rows_named(text_of("figures/README.md"))


@pytest.mark.parametrize("stage", readme_tree.ROOMS)
def test_every_command_explains_itself_with_an_example(stage):
    if need := NEEDS.get(stage):
        pytest.importorskip(need)
    for name, command in commands_of(stage).items():
        assert "Example: `python -m" in " ".join((command.help or "").split()), f"{stage} {name}"


@pytest.mark.parametrize("stage", readme_tree.ROOMS)
def test_every_stage_prints_its_help(stage, tmp_path):
    if need := NEEDS.get(stage):
        pytest.importorskip(need)
    shown = run(["python", "-m", stage, "--help"], tmp_path)
    assert shown.returncode == 0
    assert "Usage: python -m" in shown.stdout


@pytest.mark.parametrize("readme", READMES)
def test_modes_of_the_script_are_the_ones_it_knows(readme):
    for mode in re.findall(r"\./RUNME\.sh ([a-z]\w*)", text_of(readme)):
        assert f" {mode}" in (ROOT / "RUNME.sh").read_text()


def test_the_script_refuses_an_unknown_mode():
    refused = subprocess.run(["bash", "RUNME.sh", "plot"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert refused.stderr.strip() == "RUNME.sh: unknown mode 'plot'; known: logs, full, fresh, test"
