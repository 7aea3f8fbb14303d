"""Finds entries: a column by its name in a file, by its title in a printed table, or by a word of either."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from moe_replay.traces.errors import unknown_name
from moe_replay.traces.glossary import (
    accuracy,
    clusters,
    dispatch,
    layers,
    locality,
    memory,
    ordering,
    placing,
    prediction,
    rebalancing,
    records,
    runs,
    selections,
    served,
    serving,
    settings,
    swapping,
    training_steps,
)
from moe_replay.traces.glossary.column import PREFIXES, SUFFIXES, Column

FAMILIES: dict[str, tuple[Column, ...]] = {
    module.__name__.rpartition(".")[2]: module.COLUMNS
    for module in (
        settings,
        runs,
        memory,
        placing,
        ordering,
        records,
        selections,
        serving,
        locality,
        clusters,
        accuracy,
        prediction,
        dispatch,
        swapping,
        layers,
        served,
        rebalancing,
        training_steps,
    )
}
BY_NAME = {column.name: column for family in FAMILIES.values() for column in family}
BY_TITLE = {column.title: column for column in BY_NAME.values() if column.title}


def entry(name: str) -> Column | None:
    """Return the entry of a column by its name or printed title, None where there is none.

    Where a name is that of another column with an affix the meaning says so.
    """
    if name in BY_NAME or name in BY_TITLE:
        return BY_NAME.get(name) or BY_TITLE[name]
    for base, affix, meaning in without_affix(name):
        found = entry(base)
        if found is not None:
            titled = f"{found.title}{affix.replace('_', ' ')}" if found.title and affix in SUFFIXES else ""
            return replace(found, name=name, meaning=meaning.format(found.meaning), title=titled)
    return None


def without_affix(name: str) -> Iterator[tuple[str, str, str]]:
    """Yield what is left of a name or title without one of its affixes, that affix, and what it does to the meaning."""
    for affix, meaning in SUFFIXES.items():
        for written in (affix, affix.replace("_", " ")):
            if name.endswith(written):
                yield name.removesuffix(written), affix, meaning
    for affix, meaning in PREFIXES.items():
        if name.startswith(affix):
            yield name.removeprefix(affix), affix, meaning


def find(name: str) -> Column:
    """Return the entry of a column, by its name or its printed title; InputError for one that has none."""
    found = entry(name)
    if found is None:
        raise unknown_name("column", name, BY_NAME)
    return found


def explained_by(name: str) -> str:
    """Return the name of the entry that explains a column, all affixes taken off; InputError as `find`."""
    if name in BY_NAME or name in BY_TITLE:
        return find(name).name
    for base, _, _ in without_affix(name):
        if entry(base) is not None:
            return explained_by(base)
    raise unknown_name("column", name, BY_NAME)


def title(name: str) -> str:
    """Return what printed tables call a column; InputError as `find`."""
    return find(name).title or name


def titles(names: Iterable[str]) -> dict[str, str]:
    """Return {name: title} of several columns, in their order; InputError as `find`."""
    return {name: title(name) for name in names}


def search(word: str) -> list[Column]:
    """Return the entries of a family, or the column of that name, or those that have the word in name or meaning."""
    if word in FAMILIES:
        return list(FAMILIES[word])
    if entry(word) is not None:
        return [find(word)]
    said = {each: f"{each.name} {each.title} {each.meaning}".lower() for each in BY_NAME.values()}
    return [each for each, text in said.items() if word.lower() in text]
