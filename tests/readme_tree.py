"""The README's tree: every room and the folders in it, each with the first sentence of its docstring.

Run as a program, this prints the tree that stands between the README's `<!-- tree -->` marks.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("traces", "collect", "simulate", "analysis", "figures")
WIDTH = 22


def tree() -> str:
    """Return the lines of the tree, fenced as text."""
    lines = []
    for room in ROOMS:
        lines.append(entry(room, ROOT / room))
        inner = sorted(path.parent for path in (ROOT / room).glob("*/__init__.py"))
        lines += [entry(f"  {folder.name}", folder) for folder in inner]
    lines.append(f"{'tests/':{WIDTH}} one folder per room, and the house rules (test_architecture.py)")
    return "\n".join(["```", *lines, "```", ""])


def entry(name: str, folder: Path) -> str:
    """Return one line: a folder's name and the first line of its docstring."""
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    return f"{name + '/':{WIDTH}} {said.splitlines()[0]}"


if __name__ == "__main__":
    print(tree(), end="")
