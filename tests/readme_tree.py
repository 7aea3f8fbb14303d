"""The trees in the READMEs: rooms, folders and modules, each with the first sentence of its docstring."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("traces", "collect", "simulate", "analysis", "figures")
OPENING, CLOSING = "<!-- tree -->\n", "<!-- /tree -->"


def first_sentence(module: Path) -> str:
    """Return the first sentence of a module's docstring, without a full stop; of a folder, its `__init__`'s."""
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<!et al)\.(?:\s|$)|:$", paragraph, maxsplit=1)[0]


def folders(folder: Path) -> list[Path]:
    """Return the packages in a folder, in the order of their names."""
    return sorted(path.parent for path in folder.glob("*/__init__.py"))


def modules(folder: Path) -> list[Path]:
    """Return the modules in a folder, in the order of their names, without those that every package has."""
    return sorted(path for path in folder.glob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def listed(entries: list[tuple[str, str]]) -> str:
    """Return the block of a tree: names, and what they hold in a column of its own."""
    width = max(len(name) for name, _ in entries)
    lines = [f"{name:<{width}}  {text}".rstrip() for name, text in entries]
    return "\n".join(["```", *lines, "```"]) + "\n"


def house() -> str:
    """Return the tree of the whole: every room with its sentence, and the names of the folders in it."""
    entries = []
    for name in ROOMS:
        entries.append((f"{name}/", first_sentence(ROOT / name / "__init__.py")))
        inside = "  ".join(f"{each.name}/" for each in folders(ROOT / name))
        entries += [("", inside)] if inside else []
    return listed(entries)


def room(name: str) -> str:
    """Return the tree of one room: its folders, then its modules."""
    inside = [(f"{each.name}/", first_sentence(each / "__init__.py")) for each in folders(ROOT / name)]
    return listed(inside + [(each.name, first_sentence(each)) for each in modules(ROOT / name)])


def trees() -> dict[Path, str]:
    """Return every README that shows a tree, with the tree that it has to show."""
    return {ROOT / "README.md": house()} | {ROOT / name / "README.md": room(name) for name in ROOMS}


def shown(readme: Path) -> str:
    """Return the tree that a README shows between its marks."""
    return readme.read_text().partition(OPENING)[2].partition(CLOSING)[0]


def write(readme: Path, tree: str) -> None:
    """Put a tree between the marks of a README."""
    before, _, rest = readme.read_text().partition(OPENING)
    readme.write_text(f"{before}{OPENING}{tree}{CLOSING}{rest.partition(CLOSING)[2]}")
