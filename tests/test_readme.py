"""The README's examples are run, and what it says of the tree is held to the tree."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from readme_tree import tree

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def shell_lines():
    """Every line of the README's shell blocks, comments cut off."""
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def write_files(folder):
    """Write the files whose source the README shows: a block of Python that begins with `# NAME`."""
    for name, source in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, flags=re.DOTALL):
        (folder / name).write_text(source)


def run(words, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_python_examples_run_in_order(tmp_path):
    examples = [shlex.split(line) for line in shell_lines() if line.startswith("python ")]
    assert len(examples) >= 4
    write_files(tmp_path)
    for words in examples:
        done = run(words, tmp_path)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"


def test_a_policy_of_your_own_prints_what_stands_there(tmp_path):
    section = README.partition("### A policy of your own")[2].partition("\n### ")[0]
    commands = re.search(r"```sh\n(.*?)```", section, flags=re.DOTALL)[1].splitlines()
    expected = re.search(r"```text\n(.*?)```", section, flags=re.DOTALL)[1]
    write_files(tmp_path)
    printed = [run(shlex.split(line), tmp_path).stdout for line in commands][-1]
    table = printed.partition("\nmode ")[0].strip("\n ")
    assert [line.split() for line in expected.splitlines()] == [line.split() for line in table.splitlines()]


@pytest.mark.parametrize("stage", ["traces", "simulate", "analysis", "figures", "collect"])
def test_every_stage_explains_itself_with_an_example(stage, tmp_path):
    if stage == "collect":
        pytest.importorskip("torch")
    shown = run(["python", "-m", stage, "--help"], tmp_path)
    assert shown.returncode == 0
    commands = re.findall(r"^│ (\w[\w-]*) ", shown.stdout.partition("Commands")[2], flags=re.MULTILINE)
    for command in commands:
        helped = run(["python", "-m", stage, command, "--help"], tmp_path)
        assert "Example: python -m" in " ".join(helped.stdout.split())
    if not commands:
        assert "Example: python -m" in " ".join(shown.stdout.split())


def test_modes_of_the_script_are_the_ones_it_knows():
    for mode in re.findall(r"\./RUNME\.sh (\w+)", README):
        assert f" {mode}" in (ROOT / "RUNME.sh").read_text()
    refused = subprocess.run(["bash", "RUNME.sh", "plot"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert refused.stderr.strip() == "RUNME.sh: unknown mode 'plot'; known: logs, full, fresh, test"


def test_the_tree_is_what_the_docstrings_of_the_folders_say():
    """`python tests/readme_tree.py` prints it."""
    assert README.partition("<!-- tree -->\n")[2].partition("<!-- /tree -->")[0] == tree()
