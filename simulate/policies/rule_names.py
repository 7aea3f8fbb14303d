"""Rules by name: the shipped ones, and a user's own, imported as `package.module:Name` or registered from Python."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from moe_replay.traces.errors import InputError, unknown_name

OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
REGISTERED = re.compile(r"[A-Za-z]\w*", re.ASCII)  # no hyphen: it parts the words of a run's file name
RECORDED = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
LONGEST = 80  # letters of a name, which is part of file names
RESERVED = ("resident",)  # means no cache at all where caches are swept

Rule = TypeVar("Rule")


class NotKnownHere(str):
    """The name of a rule that a record header tells and nobody has registered here: it can be shown, not run."""


class Rules(dict[str, Rule]):
    """The rules of one kind by name. `rules[name]` is a rule; InputError where there is none of that name.

    `field` is the field of a configuration that names such a rule, `kind` what it is called in messages. A name with a
    colon is a user's own, imported when it is looked up; others may be registered. Both must suit `base`: a class
    whose subclasses are rules of this kind and define one of `methods` at least; None: functions of `arguments`.

    A table that a configuration needs for its names alone starts with names: the module `home` fills it with the rules,
    which know the configuration, and is imported when a rule is looked up.
    """

    def __init__(
        self, field: str, kind: str, base: type | None, shipped: Mapping[str, Rule], methods: tuple[str, ...] = (),
        arguments: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__(shipped)
        self.field, self.kind, self.base, self.methods, self.arguments = field, kind, base, methods, arguments
        self.shipped, self.digests, self.home = frozenset(shipped), {}, ""
        TABLES[field] = self

    @classmethod
    def named(cls, field: str, kind: str, names: tuple[str, ...], home: str) -> Rules:
        """Return a table of names only; the module `home` calls `fill` when it is imported."""
        table = cls(field, kind, None, dict.fromkeys(names))
        table.home = home
        return table

    def fill(
        self, base: type | None, shipped: Mapping[str, Rule], methods: tuple[str, ...] = (),
        arguments: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Put the shipped rules behind their names: all of them and no others."""
        if shipped.keys() != self.shipped:
            raise ValueError(f"{self.field}: rules {sorted(shipped)} for the names {sorted(self.shipped)}")
        self.base, self.methods, self.arguments, self.home = base, methods, arguments, ""
        self.update({name: rule for name, rule in shipped.items() if self.get(name) is None})

    def __getitem__(self, name: str) -> Rule:
        self._filled()
        return super().__getitem__(name)

    def _filled(self) -> None:
        if self.home:
            importlib.import_module(self.home)

    def __missing__(self, name: str) -> Rule:
        self.check(name)
        if isinstance(name, NotKnownHere):
            raise unknown_name(self.kind, name, self)
        module_name, _, attribute = name.partition(":")
        what = f"{self.kind} {name!r}"
        module = imported(what, module_name)
        if not hasattr(module, attribute):
            has = [each for each, value in vars(module).items() if value is not self.base and not self._unfit(value)]
            raise InputError(f"{what}: {module_name} has no {attribute}; it has {', '.join(has) or 'none of its kind'}")
        return self._checked(what, getattr(module, attribute))

    def check(self, name: object) -> None:
        """Refuse a name that no rule has; nothing is imported for it yet."""
        if not isinstance(name, str) or (":" not in name and name not in self and not isinstance(name, NotKnownHere)):
            raise unknown_name(self.kind, name, self)
        if ":" in name and (not OWN.fullmatch(name) or len(name) > LONGEST):
            raise InputError(
                f"{self.kind} {name!r}: allowed: MODULE:NAME, of letters, digits, _ and dots, at most {LONGEST} in all"
            )

    def register(self, name: str, rule: Rule) -> Rule:
        """Give a user's own rule a name, in this process and those it starts; return the rule.

        InputError for a name that is taken or cannot be part of a file name, and for what is no rule of this kind.
        """
        self._filled()
        what = f"{self.kind} {name!r}"
        if not isinstance(name, str) or not REGISTERED.fullmatch(name) or len(name) > LONGEST:
            raise InputError(f"{what}: allowed: up to {LONGEST} letters, digits and _, a letter first")
        if name in RESERVED or self.get(name, rule) is not rule:
            raise InputError(f"{what}: the name is taken; allowed: another one")
        self[name], self.digests[name] = self._checked(what, rule), source_digest(rule)
        return rule

    def digest(self, name: str) -> str:
        """Return a digest of the source of a user's own rule, as it was where it was registered."""
        return self.digests[name] if name in self.digests else source_digest(self[name])

    def recorded(self, name: object) -> object:
        """Return a name as a record header tells it: one that nobody has registered here can still be shown."""
        if isinstance(name, str) and name not in self and RECORDED.fullmatch(name):
            return NotKnownHere(name)
        return name

    def is_own(self, name: str) -> bool:
        """Say whether a name belongs to a rule of the user's own."""
        return name not in self.shipped

    def file_part(self, name: str) -> str:
        """Return the word for a rule in a run's file name: no two rules share it, nor does anything else."""
        return f"{self.field}={name.replace(':', '.')}" if self.is_own(name) else name

    @property
    def choices(self) -> str:
        """The names for the help of an option."""
        return f"{', '.join(self)}, or MODULE:NAME of your own"

    def _checked(self, what: str, rule: Rule) -> Rule:
        if unfit := self._unfit(rule):
            raise InputError(f"{what}: {getattr(rule, '__qualname__', repr(rule))} {unfit}")
        return rule

    def _unfit(self, rule: object) -> str:
        """Say why something is no rule of this kind; empty if it is one."""
        if self.base is None:
            return self._unfit_function(rule)
        if not isinstance(rule, type) or not issubclass(rule, self.base):
            return f"is no subclass of {self.base.__module__}.{self.base.__qualname__}"
        idle = all(getattr(rule, name) is getattr(self.base, name) for name in self.methods)
        return f"does not define {' or '.join(self.methods)}" if idle else ""

    def _unfit_function(self, rule: object) -> str:
        if not callable(rule) or isinstance(rule, type):
            return "is no function"
        try:
            inspect.signature(rule).bind(*self.arguments)
        except TypeError:
            return f"does not take ({', '.join(self.arguments)})"
        except ValueError:  # a builtin does not tell what it takes
            pass
        return ""


TABLES: dict[str, Rules] = {}  # all tables, by field


def classes_in(package: str, modules: Mapping[str, str]) -> dict[str, type]:
    """Return {name: class} of a table {name: "module:Class"} of a package's modules."""
    found = {}
    for name, home in modules.items():
        module, _, attribute = home.partition(":")
        found[name] = getattr(importlib.import_module(f"{package}.{module}"), attribute)
    return found


def imported(what: str, name: str) -> ModuleType:
    """Return a module by name; InputError, which says `what` asked for it, where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            place = f"{error.name.replace('.', '/')}.py"
            line = f"no module {error.name}; allowed: {place} in the current folder, or an installed package"
            raise InputError(f"{what}: {line}") from None
        raise InputError(f"{what}: {name} cannot be imported: {error}") from None
    except Exception as error:  # whatever a user's file does when it is imported
        raise InputError(f"{what}: {name} cannot be imported: {type(error).__name__}: {error}") from None


def source_digest(rule: object) -> str:
    """Return a digest of the file in which a rule is defined, so that results of another version are told apart."""
    try:
        content = Path(inspect.getsourcefile(rule)).read_bytes()
    except (TypeError, OSError):  # defined at a prompt
        return "unknown"
    return hashlib.sha256(content).hexdigest()


def registered() -> dict[str, dict[str, tuple[object, str]]]:
    """Return {field: {name: (rule, digest)}} of what was registered in this process, for others to `take_over`."""
    return {
        field: {name: (rules[name], digest) for name, digest in rules.digests.items()}
        for field, rules in TABLES.items() if rules.digests
    }  # fmt: skip


def take_over(own: Mapping[str, Mapping[str, tuple[object, str]]]) -> None:
    """Register what another process has registered."""
    for field, rules in own.items():
        for name, (rule, digest) in rules.items():
            TABLES[field][name], TABLES[field].digests[name] = rule, digest
