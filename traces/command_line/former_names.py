"""Options and commands that were called otherwise: their former names go on working, and mean what they meant."""

from __future__ import annotations

from itertools import pairwise

FORMER = {  # former name: today's, and the unit of a number, which the former name said
    "--timeout-us": ("--timeout", "us"), "--latency-us": ("--latency", "us"), "--latency-ms": ("--pass-latency", "ms"),
    "--memory-bytes": ("--memory", "B"), "--most-gib": ("--most-memory", "GiB"), "--policy": ("--cache", ""),
    "--dmodel": ("--width", ""), "--new": ("--decode", ""),
}  # fmt: skip
FLAGS = {"--reset-per-sequence": ("--emptied", "sequence")}  # a flag that has become a word
COMMANDS = {("collect", "memory"): "dispatch-memory"}  # (stage, a command's former name): today's
TODAY = {("simulate", "order"): ("--policy",)}  # (stage, command): former names that mean something of their own there
LONGEST_PROGRAM = 3  # words before a stage's command: `python -m collect`


def present_words(words: list[str]) -> list[str]:
    """Return a command line, its stage first or behind the program's name, in which everything has today's name."""
    words, kept = list(words), []
    for place, pair in enumerate(pairwise(words[: LONGEST_PROGRAM + 1]), 1):
        words[place] = COMMANDS.get(pair, words[place])
        kept += TODAY.get(pair, ())
    found, unit = [], ""
    for place, word in enumerate(words):
        if word == "--":
            return found + words[place:]
        name, equals, value = word.partition("=")
        if word in FLAGS:
            found += FLAGS[word]
        elif name in FORMER and name not in kept:
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
