"""Invocations of every command, wrong, extreme or right, drawn from the options that commands declare."""

from __future__ import annotations

import inspect
import random
import re
import shutil
import types
import typing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

HUGE = (
    "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "99999999999999999999", "1" + "0" * 400,
)  # fmt: skip
INTEGERS = (
    "1e1", "1e999999999", "25e-1", "3MB",
    "-1", "0", "1", "2", "3", *HUGE, "-9223372036854775809", "1.5", "nan", "inf", "", "x", "\uff11", "0x10", "1_0",
)  # fmt: skip
FLOATS = (
    "90MB", "25GB/s", "40%", "200us", "1e6", "-1us", "1e400s", "5 MB", "0.5B", "GB",
    "nan", "inf", "-inf", "-1", "0", "-0.0", "1", "0.5", "1e-320", "1e-9", "1e300", "1e999", "9.3e18", "", "x", "1,5",
)  # fmt: skip
TEXTS = (
    "", " ", ",", ",,", "x", "-", "--", "none", "all", "0", "1", "-1", "1,2", "1,,2", "2,1,2", "1-2", "9-1", "1e999",
    "nan", "inf,inf", "1e300,1", *HUGE, "名前", "a/b", "../..", "%s{}", "\t", "\u202e", "x" * 5000, "=", "k=v", "1:2:3",
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a command: how it is called, what it takes, and whether it has to be there."""

    name: str
    flag: str | None
    kind: type
    several: bool
    required: bool
    words: tuple[str, ...]  # names that its help lists


def commands(app: typer.Typer) -> dict[str, list[Parameter]]:
    """Return the parameters of every command of an application."""
    found = {}
    for each in app.registered_commands:
        name = each.name or each.callback.__name__.replace("_", "-")
        hints = typing.get_type_hints(each.callback, include_extras=True)
        arguments = inspect.signature(each.callback).parameters.values()
        found[name] = [parameter(argument.name, hints[argument.name], argument.default) for argument in arguments]
    return found


def parameter(name: str, hint: object, default: object) -> Parameter:
    """Return a parameter from its annotation."""
    base, about = hint.__origin__, hint.__metadata__[0]
    several = typing.get_origin(base) is list
    if isinstance(base, types.UnionType):
        base = next(each for each in typing.get_args(base) if each is not type(None))
        several = typing.get_origin(base) is list
    kind = typing.get_args(base)[0] if several else base
    flag = None
    if isinstance(about, typer.models.OptionInfo):
        given = next((each for each in about.param_decls or () if each.startswith("--")), None)
        flag = given or f"--{name.replace('_', '-')}"
    words = tuple(re.findall(r"[a-z][a-z0-9_-]+", re.split(r"[;.]", about.help or "")[0]))
    return Parameter(name, flag, kind, several, default is inspect.Parameter.empty, words)


def input_files(folder: Path) -> None:
    """Fill a folder with what is no input of any command, and with what reading it may stumble over."""
    (folder / "folder").mkdir()
    (folder / "empty").write_bytes(b"")
    (folder / "binary").write_bytes(bytes(range(256)) * 40)
    (folder / "latin.csv").write_bytes("größe,anzahl\n1,2\n".encode("latin-1"))
    (folder / "list.json").write_text("[1, 2, 3]")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "half.json").write_text('{"a": ')
    (folder / "lines.jsonl").write_text('{"text": "one"}\n{"text": 2}\nno json\n')
    (folder / "grid.toml").write_text("queue_size = [1, 2]\nin_flight = 2\n")
    (folder / "bad.toml").write_text("queue_size = [1, \n")
    (folder / "table.csv").write_text("set,status\nx,ok\n")
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", None]}), folder / "other.parquet")
    np.savez(folder / "arrays.npz", experts=np.array([[[0, 1], [2, 3]]] * 3, np.int16), offsets=np.array([0, 3]))
    np.savez(folder / "objects.npz", experts=np.array([{}], object))
    for path in sorted(folder.glob("*.parquet")):
        whole = path.read_bytes()
        (folder / f"cut-{path.name}").write_bytes(whole[: len(whole) // 2])
        (folder / f"flipped-{path.name}").write_bytes(whole[:200] + bytes([whole[200] ^ 255]) + whole[201:])
    logs = folder / "logs" / "cpu" / "toy"
    logs.mkdir(parents=True)
    shutil.copy(folder / "trace.parquet", logs / "base.trace.parquet")
    for name in ("quality.csv", "vision.csv", "memory.csv", "language.csv", "dynamic_k.parquet", "swap-quality.csv"):
        shutil.copy(folder / ("latin.csv" if name < "m" else "table.csv"), logs / name)
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "名前.parquet").write_bytes(b"PAR1")


def paths(folder: Path) -> list[str]:
    """Return places that are right for some commands and wrong for most; none but new ones lie outside the folder.

    Invocations are carried out, by whoever runs the tests: no device and no system folder may be named here.
    """
    inside = [str(path) for path in sorted(folder.iterdir())]
    return [
        *inside, "", ".", "absent", "absent/below", "/proc/none/x", "x" * 300, "ü/ü", str(folder / "binary" / "below"),
        str(folder), f"{folder}/folder/../empty", "new.csv", "new", "new.parquet", "new.npz", "new.json", "new.yaml",
        "new.trace.parquet", "~", "\u202e", "a\nb",
    ]  # fmt: skip


class Draw:
    """Draws the words of invocations. `right` says for parameters by name what is right for most commands."""

    def __init__(self, seed: int, folder: Path, right: dict[str, str]) -> None:
        self.random, self.paths, self.right = random.Random(seed), paths(folder), right

    def words(self, parameters: list[Parameter]) -> list[str]:
        """Return the words of one invocation: right ones where they are known, and up to three that may be wrong."""
        drawn = self.random.choices((0, 1, 2, 3), (5, 50, 30, 15))[0]
        mutated = self.random.sample(parameters, min(len(parameters), drawn))
        arguments, options = [], []
        for each in parameters:
            if each in mutated:
                values = [self.value(each) for _ in range(self.random.randint(1, 2) if each.several else 1)]
            elif each.name in self.right and (each.required or self.random.random() < 0.9):
                values = [self.right[each.name]]
            else:
                continue
            if each.flag is None:
                arguments += values
            elif each.kind is bool:
                options.append(each.flag)
            else:
                options += [word for value in values for word in (each.flag, value)]
        if self.random.random() < 0.04:
            options.append(self.random.choice(["--no-such-option", "--out", "-x", "--help", "=", "extra"]))
        return [*options, "--", *arguments] if self.random.random() < 0.5 else [*arguments, *options]

    def value(self, parameter: Parameter) -> str:
        """Return a value, right or wrong."""
        if parameter.kind is Path:
            return self.random.choice(self.paths)
        if parameter.kind is int:
            return self.random.choice(INTEGERS if self.random.random() < 0.7 else ("1", "2", "3", "4", "7", "30"))
        if parameter.kind is float:
            return self.random.choice(FLOATS)
        if parameter.name == "axis" and self.random.random() < 0.8:
            return f"{self.random.choice(parameter.words)}={self.random.choice((*INTEGERS, *FLOATS, *TEXTS))}"
        if parameter.words and self.random.random() < 0.6:
            return ",".join(self.random.choices(parameter.words, k=self.random.choice([1, 1, 2, 3])))
        return self.random.choice(TEXTS)


def state_of(folder: Path) -> dict[str, tuple]:
    """Return what tells that a file of a folder was written, moved or removed."""
    found = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        found[str(path.relative_to(folder))] = (about.st_size, about.st_mtime_ns, about.st_ino)
    return found


def restored(pristine: Path, folder: Path) -> None:
    """Put a folder back to what it was."""
    shutil.rmtree(folder)
    shutil.copytree(pristine, folder, symlinks=True)
