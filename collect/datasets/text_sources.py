"""Where the documents of each domain come from: files under `DATA_DIR/DOMAIN`, else where the system keeps them."""

import os
import re
import sysconfig
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moe_replay.traces.errors import InputError

NOT_LIBRARY = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib", "lib2to3", "turtledemo"}
DOCS = Path("/usr/share/doc/python3.11/html/_sources")
NOVELS = Path("/usr/lib/R/site-library/janeaustenr/data")


class Document(NamedTuple):
    """A document: its name, the same on every machine, and its text."""

    name: str
    text: bytes


@dataclass(frozen=True)
class TextSource:
    """A domain: `find(data_dir)` returns its documents or None where absent, `where` says how to get them."""

    find: Callable[[Path | None], Iterator[Document] | None]
    where: str


def given_folder(domain: str, data_dir: Path | None) -> Path | None:
    """Return the folder of a domain's files in `data_dir` or MOE_REPLAY_DATA, None where there is none."""
    environment = os.environ.get("MOE_REPLAY_DATA")
    for place in (data_dir, Path(environment) if environment else None):
        if place is not None and (place / domain).is_dir():
            return place / domain
    return None


def files(folder: Path, pattern: str, left_out: set[str] = frozenset()) -> Iterator[Document]:
    """Yield the files below a folder, named by their place in it, without empty files and `left_out` folders."""
    for path in folder.rglob(pattern):
        place = path.relative_to(folder)
        if path.is_file() and not left_out.intersection(place.parts) and (text := path.read_bytes()):
            yield Document(place.as_posix(), text)


def code(data_dir: Path | None) -> Iterator[Document]:
    """Return the standard library's modules, without its tests, its editor, its turtle and installed packages."""
    given = given_folder("code", data_dir)
    return files(given, "*") if given else files(Path(sysconfig.get_paths()["stdlib"]), "*.py", NOT_LIBRARY)


def docs(data_dir: Path | None) -> Iterator[Document] | None:
    """Return the pages of Python's documentation."""
    folder = given_folder("docs", data_dir) or (DOCS if DOCS.is_dir() else None)
    return files(folder, "*.txt") if folder else None


def novels(data_dir: Path | None) -> Iterator[Document] | None:
    """Return the novels' chapters, from text files or from R's lazy-load database."""
    folder = given_folder("novels", data_dir) or (NOVELS if NOVELS.is_dir() else None)
    if folder is None:
        return None
    if (folder / "Rdata.rdb").is_file():
        return chapters(lazy_load_strings(folder / "Rdata.rdb"))
    return chapters(files(folder, "*.txt"))


def chapters(books: Iterator[Document]) -> Iterator[Document]:
    """Yield every book's chapters; what comes before the first is the first document."""
    for book in books:
        parts = re.split(rb"(?m)^(?=chapter\b)", book.text, flags=re.IGNORECASE)
        for number, text in enumerate(part for part in parts if part.strip()):
            yield Document(f"{book.name}/{number:03d}", text)


def lazy_load_strings(path: Path) -> Iterator[Document]:
    """Yield the character vectors in an R lazy-load database, a line each, by their place in it.

    A record is its text's length (4 bytes, big-endian) and zlib data, R's serialization, that `rdata` parses; the
    index that names the records is not needed. InputError where rdata is missing or the file is damaged.
    """
    try:
        import rdata
    except ImportError:
        raise InputError(f"{path}: needs the package rdata, which this Python lacks: pip install rdata") from None
    content = path.read_bytes()
    start = 0
    while start < len(content):
        record = zlib.decompressobj()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Unknown file type")  # a record has no file's magic number
                parsed = rdata.parser.parse_data(record.decompress(content[start + 4 :]))
        except (zlib.error, ValueError, NotImplementedError) as error:
            raise InputError(f"{path}: byte {start}: not a record of R's lazy-load database ({error!s:.60})") from None
        lines = rdata.conversion.convert(parsed)
        if not isinstance(lines, dict) and len(lines) > 1 and isinstance(lines[0], str):
            yield Document(f"book{start}", "\n".join(lines).encode())
        start = len(content) - len(record.unused_data)


SOURCES = {
    "code": TextSource(code, "needs the standard library's source"),
    "docs": TextSource(docs, "needs Debian's package python3.11-doc, or files in DATA_DIR/docs"),
    "novels": TextSource(novels, "needs Debian's package r-cran-janeaustenr, or files in DATA_DIR/novels"),
}
