"""Options that were called otherwise before: their former names go on working, and mean what they meant."""

from __future__ import annotations

FORMER = {  # former name: today's, and the unit of a number, which the former name said
    "--timeout-us": ("--timeout", "us"), "--latency-us": ("--latency", "us"), "--latency-ms": ("--pass-latency", "ms"),
    "--memory-bytes": ("--memory", "B"), "--most-gib": ("--most-memory", "GiB"), "--policy": ("--cache", ""),
    "--dmodel": ("--width", ""), "--new": ("--decode", ""),
}  # fmt: skip
FLAGS = {"--reset-per-sequence": ("--emptied", "sequence")}  # a flag that has become a word


def present_words(words: list[str]) -> list[str]:
    """Return a command line in which options have today's names."""
    found, unit = [], ""
    for place, word in enumerate(words):
        if word == "--":
            return found + words[place:]
        name, equals, value = word.partition("=")
        if word in FLAGS:
            found += FLAGS[word]
        elif name in FORMER:
            new, unit = FORMER[name]
            found.append(f"{new}={with_unit(value, unit)}" if equals else new)
            unit = "" if equals else unit
        else:
            found.append(with_unit(word, unit))
            unit = ""
    return found


def with_unit(numbers: str, unit: str) -> str:
    """Return numbers with commas, each followed by a unit."""
    return ",".join(f"{each}{unit}" for each in numbers.split(","))
