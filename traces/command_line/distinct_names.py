"""Names of files that a command reads: two files of one name stay two, and one that is given twice counts once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from itertools import count
from pathlib import Path


def told_apart(paths: Iterable[Path]) -> dict[str, Path]:
    """Return {name: path} of different files, in order: `toy.csv`, or as much of its place as others lack: `a/toy.csv`.

    Where a machine keeps its files says nothing to another reader, so that no name is longer than it has to be.
    """
    different = [*{os.path.realpath(path): path for path in reversed([*paths])}.values()][::-1]
    places = [path.absolute() for path in different]
    names = [place.name for place in places]
    for parts in count(2):
        taken = Counter(names)
        if max(taken.values(), default=1) == 1:
            return dict(zip(names, different, strict=True))
        names = [
            name if taken[name] == 1 else "/".join(place.parts[-parts:])
            for name, place in zip(names, places, strict=True)
        ]
