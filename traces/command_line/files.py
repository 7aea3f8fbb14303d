"""Files that are either whole or absent: written under a temporary name, synced, then renamed."""

import contextlib
import csv
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power failure; a file system that cannot is left to itself."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def write_json(path: Path | str, content: object) -> None:
    """Write `content` as indented JSON with sorted keys, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_text(path: Path | str, text: str) -> None:
    """Write a text, whole or not at all; compressed where the name ends in `.gz`, the same text to the same bytes."""
    content = text.encode()
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if Path(path).suffix == ".gz" else content)


def read_text(path: Path | str) -> str:
    """Return the text that `write_text` wrote; OSError or ValueError for a file that cannot be read."""
    content = Path(path).read_bytes()
    try:
        return (gzip.decompress(content) if Path(path).suffix == ".gz" else content).decode()
    except (EOFError, zlib.error) as error:
        raise ValueError(f"damaged: {error}") from None


def write_rows(path: Path | str, rows: list[dict]) -> None:
    """Write rows with equal keys as CSV, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def sha256_of(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
