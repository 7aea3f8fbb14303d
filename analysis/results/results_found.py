"""Goes through a file or a folder and returns every result in it, and what it could not read or left out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from moe_replay.analysis.results.memory_result import read_memory
from moe_replay.analysis.results.planning_results import order_table, orders_result
from moe_replay.analysis.results.result import Result
from moe_replay.analysis.results.runs_result import read_runs
from moe_replay.analysis.results.tables_result import csv_result
from moe_replay.analysis.results.trace_result import loads_result, trace_results
from moe_replay.traces.command_line.outputs import digest_of, parquet_header, provenance_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import PART_NAME
from moe_replay.traces.runs.run_records import load_run, run_names

TABLES, PICTURES = "tables", "figures"  # of a folder that `./RUNME.sh` wrote
FIRST_PART = PART_NAME.format(0)
RECORDS = (".passes.parquet", ".batches.parquet", ".transfers.parquet", ".messages.parquet")
ALLOWED = "what `simulate`, `analysis` or ./RUNME.sh wrote, or a trace"


@dataclass
class Found:
    """The results of a folder. `pictures` are {figure: PNG file}; `failed` says what could not be read, `left_out`
    what was left out by intention, each in a line; `files` are all that were read."""

    results: list[Result] = field(default_factory=list)
    pictures: dict[str, Path] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def find_results(path: Path, said: Callable[[str, int, int], None] = lambda name, done, of: None) -> Found:
    """Return the results in a file or folder; `said(name, done, of)` is told before each is read.

    A folder of `./RUNME.sh` is read by its tables and pictures. InputError where nothing is a result, or where a single
    file cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; allowed: {ALLOWED}")
    found = Found()
    places = [path] if path.is_file() else list(places_in(path, found))
    for done, place in enumerate(places):
        name = place.name if place == path else place.relative_to(path).as_posix()
        said(name, done, len(places))
        try:
            made = read_place(place, name)
        except InputError as error:
            if len(places) == 1:
                raise
            found.failed.append(str(error))
            continue
        found.results += made
        found.files.append(place)
        if not made and place.suffix == ".csv":
            found.left_out.append(f"{name}: a table without rows")
    if not found.results:
        raise InputError(found.failed[0] if found.failed else f"{path}: holds no result; allowed: {ALLOWED}")
    return found


def places_in(folder: Path, found: Found) -> Iterator[Path]:
    """Yield the files and folders of records to read in a folder, in the order of their names."""
    if any((folder / TABLES).glob("*.csv")):  # of ./RUNME.sh: its records are behind the tables
        found.pictures = {each.stem: each for each in sorted((folder / PICTURES).glob("*.png"))}
        others = sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name not in (TABLES, PICTURES))
        found.left_out += [f"{name}/: what the tables were made of" for name in others]
        folder = folder / TABLES
    if (folder / FIRST_PART).is_file():  # a recording in progress
        yield folder
        return
    for place in [folder, *sorted(each for each in folder.rglob("*") if each.is_dir())]:
        if any(part.startswith(".") or part.endswith(".parts") for part in place.relative_to(folder).parts):
            continue
        if run_names(place):
            yield place
        for each in sorted(place.iterdir()):
            if each.is_file() and not each.name.startswith(".") and not each.name.endswith(RECORDS):
                yield each


def read_place(place: Path, name: str) -> list[Result]:
    """Return the results in a folder of records or a file; none for a file that is no result."""
    if (place / FIRST_PART).is_file():
        return [with_digest(each, place) for each in trace_results(place, name if name != "." else place.name)]
    if place.is_dir():
        return records(place, "runs" if name == "." else name)
    if place.suffix == ".csv":
        table = csv_result(place, name)
        return [] if table is None else [with_digest(table, place)]
    if place.suffix == ".json":
        table = None if place.with_suffix(".csv").exists() else order_table(place)
        return [] if table is None else [with_digest(orders_result(table, name, provenance_of(place)), place)]
    kind = parquet_header(place).get("kind") if place.suffix == ".parquet" else None
    if kind == "sweep":
        header = parquet_header(place)
        return [with_digest(read_runs(place, name, header.get("provenance", {}), header), place)]
    if kind == "trace":
        return [with_digest(each, place) for each in trace_results(place, name)]
    return [with_digest(loads_result(place, name), place)] if kind == "loads" else []


def records(folder: Path, name: str) -> list[Result]:
    """Return the results of a folder of run records: its runs, and what expert slots cost where it has some."""
    header = load_run(folder, run_names(folder)[0]).header
    made = header.get("provenance", {})
    found = []
    for read, ending in ((read_memory, " (expert memory)"), (read_runs, "")):
        try:
            found.append(with_digest(read(folder, f"{name}{ending}", made, header), folder))
        except InputError:
            if read is read_runs and not found:
                raise
    return found


def with_digest(result: Result, place: Path) -> Result:
    """Return a result with the digest of what it was read from."""
    return replace(result, digest=result.digest or digest_of(place))
