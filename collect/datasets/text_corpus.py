"""The text of three domains, cut into training and held-out documents: code, technical prose, novels.

code    the source of the running Python's standard library: every machine with Python has it
docs    Python's documentation in reStructuredText: Debian's package python3.11-doc
novels  Jane Austen's six novels, a document per chapter: Debian's package r-cran-janeaustenr
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from moe_replay.collect.datasets.text_sources import SOURCES, Document
from moe_replay.traces.errors import InputError, unknown_name

SEPARATOR = 0  # the byte between two documents; no document holds it
HELD_OUT_TENTH = 7  # documents whose name's digest ends in this digit (modulo ten) are held out


@dataclass(frozen=True)
class Domain:
    """The documents of one domain in the order of their names, each with its text as uint8 [N]."""

    name: str
    train: tuple[Document, ...]
    held_out: tuple[Document, ...]

    @cached_property
    def train_B(self) -> np.ndarray:
        """All training bytes, a SEPARATOR behind every document."""
        return joined(self.train)

    @cached_property
    def held_out_B(self) -> np.ndarray:
        """All held-out bytes, a SEPARATOR behind every document."""
        return joined(self.held_out)


@dataclass(frozen=True)
class Corpus:
    """The domains of a model's text; `digest` covers every byte, its domain, and whether it was held out."""

    domains: tuple[Domain, ...]
    absent: dict[str, str]

    @property
    def names(self) -> list[str]:
        """The domains' names."""
        return [domain.name for domain in self.domains]

    @cached_property
    def digests(self) -> dict[str, str]:
        """A digest per domain and part."""
        return {
            f"{domain.name}.{part}": hashlib.sha256(bytes_B.tobytes()).hexdigest()[:32]
            for domain in self.domains
            for part, bytes_B in (("train", domain.train_B), ("held_out", domain.held_out_B))
        }

    @property
    def digest(self) -> str:
        """One digest of all."""
        return hashlib.sha256(repr(sorted(self.digests.items())).encode()).hexdigest()[:32]

    def about(self) -> dict:
        """Return what a header says of the data: digests, bytes and documents of every domain."""
        sizes = {
            domain.name: {
                "train_bytes": len(domain.train_B), "held_out_bytes": len(domain.held_out_B),
                "train_documents": len(domain.train), "held_out_documents": len(domain.held_out),
            }
            for domain in self.domains
        }  # fmt: skip
        return {"domains": sizes, "digests": self.digests}


def read_corpus(names: list[str] | None = None, data_dir: Path | None = None) -> Corpus:
    """Return the corpus of the named domains (None: those that this machine has; the absent ones are named in it).

    InputError for an unknown domain, one asked for that is absent, or one with too few documents to hold some out.
    """
    for name in names or ():
        if name not in SOURCES:
            raise unknown_name("domain", name, SOURCES)
    domains, absent = [], {}
    for name in names or SOURCES:
        found = SOURCES[name].find(data_dir)
        if found is None and names:
            raise InputError(f"domain {name}: not on this machine; {SOURCES[name].where}")
        if found is None:
            absent[name] = SOURCES[name].where
            continue
        domains.append(split(name, found))
    return Corpus(tuple(domains), absent)


def split(name: str, documents: Iterator[Document]) -> Domain:
    """Return a domain, about a tenth of its documents held out; which ones depends on their names alone."""
    parts = ([], [])
    for document in sorted(documents):
        if SEPARATOR in document.text:
            raise InputError(f"domain {name}: {document.name}: holds a byte {SEPARATOR}, allowed 1..255")
        parts[is_held_out(document.name)].append(document)
    if not all(parts):
        raise InputError(f"domain {name}: {len(parts[0]) + len(parts[1])} documents are too few to hold some out")
    return Domain(name, tuple(parts[0]), tuple(parts[1]))


def is_held_out(name: str) -> bool:
    """Return whether a document is held out, by a digest of its name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 10 == HELD_OUT_TENTH


def joined(documents: tuple[Document, ...]) -> np.ndarray:
    """Return the documents' bytes one behind the other, uint8, a SEPARATOR behind each."""
    return np.frombuffer(b"".join(document.text + bytes([SEPARATOR]) for document in documents), np.uint8)
