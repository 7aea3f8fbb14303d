"""Functions of compiled code that call the rule of the run, made from the compiled forms of all rules.

Each is a list of questions, written out as one would by hand (`text_of` shows it) and then compiled. numba offers no
shorter way that is as fast: it cannot call by number one of the functions in a tuple, and it takes minutes to compile a
chain of functions, each of which asks one question.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from importlib import import_module

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.rule_numbers import module_of

Rules = dict[str, tuple[Callable, tuple[int, ...]]]  # {what a function is called in the text: (it, whose rule it is)}


def twins_of(package: str, numbers: Mapping[type, int]) -> dict[int, object]:
    """Return {number: compiled form} of rules, from the `TWINS` of the modules of their names in a package.

    LookupError for a rule that is not in them.
    """
    found = {}
    for rule, number in numbers.items():
        module = import_module(f"{package}.{module_of(rule)}")
        if rule not in getattr(module, "TWINS", {}):
            raise LookupError(f"{module.__file__}: TWINS lacks {rule.__name__}, which the table of names has there")
        found[number] = module.TWINS[rule]
    return found


def rules_of(twins: Mapping[int, object], field: str, default: Callable) -> Rules:
    """Return the functions that compiled forms have in a field, each once, with whose they are; not the default."""
    rules: Rules = {}
    for number, twin in twins.items():
        if (function := getattr(twin, field)) is not default:
            name = f"{function.__module__.rpartition('.')[2]}_{function.__name__}"
            rules[name] = (function, (*rules.get(name, (function, ()))[1], number))
    return rules


def text_of(name: str, arguments: str, asked: str, rules: Rules) -> str:
    """Return the lines of the function that calls the rule whose number the expression `asked` has, or the default."""
    lines = [f"def {name}({arguments}):"]
    for called, (_, numbers) in rules.items():
        question = " or ".join(f"{asked} == {number}" for number in numbers)
        lines += [f"    if {question}:", f"        return {called}({arguments})"]
    return "\n".join([*lines, f"    return default({arguments})", ""])


def call_by_number(name: str, arguments: str, asked: str, rules: Rules, default: Callable) -> Callable:
    """Return that function, compiled; messages of Python and numba show its lines."""
    text, file = text_of(name, arguments, asked, rules), f"<call of {name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    # numba calls machine code by a function's module and name, which are to be no other's.
    known = {"__name__": __name__, "default": default} | {called: function for called, (function, _) in rules.items()}
    exec(compile(text, file, "exec"), known)
    return compiled(known[name])
