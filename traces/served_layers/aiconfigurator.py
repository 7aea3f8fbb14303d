"""Reads measured MoE layers and exchanges of tokens from the tables in the package aiconfigurator-core.

The package (PyPI, Apache-2.0, NVIDIA) is not imported: its Parquet tables are read where it is installed, layers from
`systems/data/GPU/moe/FRAMEWORK/VERSION/moe_perf.parquet` and exchanges from `.../comm/FRAMEWORK/VERSION/
moe_a2a_perf.parquet`. A row is the mean time of one layer at so many tokens, split over so many expert-parallel
devices, on that with most selections.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.served_layers.served_times import COLUMNS, LAYER, ServedTimes

DISTRIBUTION, PACKAGE = "aiconfigurator-core", "aiconfigurator_core"
INSTALL = "pip install 'moe-replay[costs]', in a checkout pip install -e '.[costs]'"
LAYERS, EXCHANGES = "moe_perf.parquet", "moe_a2a_perf.parquet"
LAYER_COLUMNS = {  # ours: theirs
    "dtype": "moe_dtype", "width": "hidden_size", "hidden": "inter_size", "experts": "num_experts", "k": "topk",
    "kernel": "kernel_source", "devices": "moe_ep_size", "tokens": "num_tokens", "spread": "distribution",
    "ms": "latency", "gpu": "device",
}  # fmt: skip
EXCHANGE_COLUMNS = {
    "kernel": "comm_backend", "part": "phase", "dtype": "comm_dtype", "processors": "sms", "devices": "ep_size",
    "tokens": "num_tokens", "ms": "latency",
}  # fmt: skip
WHOLE_EXPERTS = ("moe_tp_size", "==", 1)  # not cut over devices within themselves
ONE_NODE = ("node_num", "==", 1)
MEASURED = (
    "a whole MoE layer of the engine on the device with most selections, without exchange and without the router's "
    "product; tokens are those of all devices; power_law_A: selections over experts follow a power law of exponent A"
)
SHOWN = 8  # shapes in a refusal


@dataclass(frozen=True)
class LayerKind:
    """A layer that was measured: of which framework, its sizes, and by which kernels on how many devices."""

    framework: str
    framework_version: str
    width: int
    hidden: int
    experts: int
    k: int
    dtype: str
    kernels: tuple[str, ...]
    devices: tuple[int, ...]

    @property
    def shape(self) -> str:
        """Its sizes and type, in words."""
        return f"{self.width} x {self.hidden}, {self.experts} experts, k {self.k}, {self.dtype}"

    def is_like(self, wanted: dict) -> bool:
        """Whether it has every value that is asked for; None asks for nothing."""
        return all(value in (None, getattr(self, name)) for name, value in wanted.items())


def tables_folder(given: Path | None) -> Path:
    """Return the folder of the tables: the given one, or that in the installed package; InputError without one."""
    if given is None:
        found = find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise InputError(f"{DISTRIBUTION} is not installed: {INSTALL}; or --tables FOLDER")
        given = Path(found.submodule_search_locations[0]) / "systems" / "data"
    if not any(given.glob(f"*/moe/*/*/{LAYERS}")):
        raise InputError(f"{given}: holds no GPU/moe/FRAMEWORK/VERSION/{LAYERS}")
    return given


def gpu_folder(tables: Path, gpu: str | None) -> Path:
    """Return the folder of a GPU, named whole or by how its name begins; InputError that lists those there are."""
    known = sorted({path.parents[3].name for path in tables.glob(f"*/moe/*/*/{LAYERS}")})
    found = [each for each in known if gpu and (each == gpu.lower() or each.startswith(f"{gpu.lower()}_"))]
    if len(found) != 1:
        raise (
            InputError(f"--gpu: allowed one of {', '.join(known)}") if gpu is None else unknown_name("GPU", gpu, known)
        )
    return tables / found[0]


def age(path: Path) -> tuple[int, ...]:
    """Return what orders versions: their numbers."""
    return tuple(map(int, re.findall(r"\d+", path.parent.name)))


def kinds_of(gpu: Path, framework: str | None, framework_version: str | None) -> list[LayerKind]:
    """Return the layers that were measured on a GPU, of every engine the newest version first."""
    frameworks = sorted({path.parents[1].name for path in gpu.glob(f"moe/*/*/{LAYERS}")})
    if framework is not None and framework not in frameworks:
        raise unknown_name("framework", framework, frameworks)
    found = []
    for name in [framework] if framework else frameworks:
        paths = sorted(gpu.glob(f"moe/{name}/*/{LAYERS}"), key=age, reverse=True)
        versions = [path.parent.name for path in paths]
        if framework_version is not None and framework is not None and framework_version not in versions:
            raise unknown_name(f"version of {framework}", framework_version, versions)
        for path in paths:
            if framework_version in (None, path.parent.name):
                found += kinds_in(path)
    return found


def kinds_in(path: Path) -> list[LayerKind]:
    """Return the layers in one table, experts whole."""
    names = ("width", "hidden", "experts", "k", "dtype")
    table = read(path, {name: LAYER_COLUMNS[name] for name in (*names, "kernel", "devices")}, [WHOLE_EXPERTS])
    by_shape = defaultdict(lambda: (set(), set()))
    for row in table.group_by(table.column_names).aggregate([]).to_pylist():
        kernels, devices = by_shape[tuple(row[name] for name in names)]
        kernels.add(row["kernel"])
        devices.add(row["devices"])
    where = path.parents[1].name, path.parent.name
    return [
        LayerKind(*where, *shape, tuple(sorted(kernels)), tuple(sorted(devices)))
        for shape, (kernels, devices) in sorted(by_shape.items())
    ]


def read(path: Path, columns: dict[str, str], filters: list[tuple]) -> pa.Table:
    """Return the rows of a table that pass the filters, columns renamed to ours; InputError for another file."""
    try:
        table = pq.read_table(path, columns=list(columns.values()), filters=filters)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path}: not a table of {DISTRIBUTION} ({str(error)[:80]})") from None
    if lacking := set(columns.values()) - set(table.column_names):
        raise InputError(f"{path}: lacks column {min(lacking)}; allowed: the tables of {DISTRIBUTION}")
    return table.select(list(columns.values())).rename_columns(list(columns))


def chosen_kind(kinds: list[LayerKind], wanted: dict) -> LayerKind:
    """Return the newest of the one layer that is asked for; InputError that lists those there are."""
    fitting = [each for each in kinds if each.is_like(wanted)]
    named = list(dict.fromkeys(f"{each.framework}, {each.shape}" for each in fitting or kinds))
    if len(named) == 1 and fitting:
        return fitting[0]
    more = f", and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    asked = ", ".join(f"{name} {value}" for name, value in wanted.items() if value is not None) or "everything"
    problem = (
        f"{len(named)} layers have {asked}; allowed: options that leave one"
        if fitting
        else (f"no layer has {asked}; known")
    )
    raise InputError(f"{problem}: {'; '.join(named[:SHOWN])}{more}")


def served_times(gpu: Path, kind: LayerKind, kernel: str | None, devices: list[int] | None, name: str) -> ServedTimes:
    """Return the times of a layer and of its exchanges of tokens, as far as they were measured.

    Where a table has the same measurement twice their mean is taken; the header says of how many. InputError for
    devices that were not measured, and where two kernels were that are not told apart by a name.
    """
    path = gpu / "moe" / kind.framework / kind.framework_version / LAYERS
    for asked, known in ((devices or [], kind.devices), ([kernel] if kernel else [], kind.kernels)):
        if unknown := [each for each in asked if each not in known]:
            raise unknown_name("number of devices" if asked is devices else "kernel", unknown[0], known)
    shape = {each: getattr(kind, each) for each in ("width", "hidden", "experts", "k", "dtype")}
    filters = [WHOLE_EXPERTS, *((LAYER_COLUMNS[each], "==", value) for each, value in shape.items())]
    filters += [(LAYER_COLUMNS["kernel"], "==", kernel)] if kernel else []
    wanted = ("devices", "in", devices or list(kind.devices))
    found = read(path, LAYER_COLUMNS, [*filters, (LAYER_COLUMNS["devices"], *wanted[1:])])
    rows = [row | {"part": LAYER} for row in found.to_pylist()]
    if not rows:
        raise InputError(f"{kind.shape}: nothing was measured by {kernel} on these devices")
    check_kernels(rows, kind)
    exchanged, source = exchanges(gpu, kind, wanted[2])
    files = {str(each.relative_to(gpu.parent)): sha256_of(each) for each in (path, *source)}
    table, again = as_table(rows + exchanged, path)
    framework = f"{kind.framework} {kind.framework_version}"
    return ServedTimes(table, {
        "device": rows[0]["gpu"], "framework": framework, "model": {"name": name, **shape},
        "measured": MEASURED, "means_of_several": again, "files": files, "source": source_words(),
        "license": "Apache-2.0, Copyright (c) 2025-2026 NVIDIA CORPORATION & AFFILIATES",
    })  # fmt: skip


def check_kernels(rows: list[dict], kind: LayerKind) -> None:
    """Refuse two kernels for the same layer on the same devices."""
    found = defaultdict(set)
    for row in rows:
        found[row["devices"], row["tokens"], row["spread"]].add(row["kernel"])
    if several := [kernels for kernels in found.values() if len(kernels) > 1]:
        raise InputError(
            f"{kind.shape}: measured with several kernels; allowed: --kernel {', '.join(sorted(several[0]))}"
        )


def exchanges(gpu: Path, kind: LayerKind, devices: list[int]) -> tuple[list[dict], list[Path]]:
    """Return the rows of a layer's exchanges inside one node, newest version first, and the file that they are from."""
    shape = [("hidden_size", "==", kind.width), ("num_experts", "==", kind.experts), ("topk", "==", kind.k)]
    for path in sorted(gpu.glob(f"comm/{kind.framework}/*/{EXCHANGES}"), key=age, reverse=True):
        rows = read(path, EXCHANGE_COLUMNS, [*shape, ONE_NODE, ("ep_size", "in", devices)]).to_pylist()
        for row in rows:
            said = [
                row["dtype"] if row["dtype"] != "default" else "",
                f"{row['processors']} SMs" * bool(row["processors"]),
            ]
            row["kernel"] = " ".join([row["kernel"], *filter(None, said)])
            row["spread"] = "unstated"
        if rows:
            return rows, [path]
    return [], []


def as_table(rows: list[dict], path: Path) -> tuple[pa.Table, int]:
    """Return (the table of rows, how many of its times are means of several); InputError for a time that is none."""
    names, times_ms = [name for name in COLUMNS if name != "took_ns"], defaultdict(list)
    for row in rows:
        if not (isinstance(row["ms"], float) and 0 < row["ms"] < float("inf")):
            raise InputError(f"{path}: latency is {row['ms']} at {row['tokens']} tokens, allowed: ms > 0")
        times_ms[tuple(row[name] for name in names)].append(row["ms"])
    found = [
        dict(zip(names, key, strict=True)) | {"took_ns": max(1, round(1e6 * sum(times) / len(times)))}
        for key, times in sorted(times_ms.items())
    ]  # fmt: skip
    return pa.Table.from_pylist(found, pa.schema(COLUMNS.items())), sum(len(each) > 1 for each in times_ms.values())


def source_words() -> str:
    """Return the package and its version, where it is installed."""
    try:
        return f"{DISTRIBUTION} {version(DISTRIBUTION)} (PyPI)"
    except PackageNotFoundError:
        return f"tables of {DISTRIBUTION}"


def kind_row(kind: LayerKind) -> dict:
    """Return a layer as a row that one prints."""
    return asdict(kind) | {"devices": ", ".join(map(str, kind.devices)), "kernels": len(kind.kernels)}
