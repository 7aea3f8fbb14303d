"""A training graph as a file: JSON, one line per operation, storage and edge, so that versions can be compared.

An operation is `[name, kind, phase, work bytes]`, its kind a place in the list `kinds`; a storage is `[bytes, producer,
kept, users]`; an edge is `[before, after]`. `TrainingGraph` says what they mean.
"""

from __future__ import annotations

import json
from pathlib import Path

from moe_replay.traces.command_line.files import read_text, write_text
from moe_replay.traces.command_line.provenance import SCHEMA_VERSION
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.training_graph import PHASES, TrainingGraph, training_graph

KIND = "training graph"
ROWS = ("operations", "storages", "edges")
KEYS = ("schema", "kind", "name", "notes", "provenance", "kinds", *ROWS)


def graph_rows(graph: TrainingGraph) -> dict[str, list[list]]:
    """Return the plain rows of a graph: what `training_graph` takes, and what its file holds."""
    return {
        "operations": [
            [name, kind, PHASES[phase], work]
            for name, kind, phase, work in zip(
                graph.names_N, graph.kinds_N, graph.phase_N.tolist(), graph.work_N.tolist(), strict=True
            )
        ],
        "storages": [
            [size, producer, kept, graph.users(s).tolist()]
            for s, (size, producer, kept) in enumerate(
                zip(graph.bytes_S.tolist(), graph.producer_S.tolist(), graph.kept_S.tolist(), strict=True)
            )
        ],
        "edges": graph.edge_E2.tolist(),
    }


def save_graph(graph: TrainingGraph, path: Path | str) -> None:
    """Write a graph, whole or not at all; the same graph gives the same bytes. A name in `.gz` compresses it."""
    rows, kinds = graph_rows(graph), sorted({*graph.kinds_N})
    place = {kind: at for at, kind in enumerate(kinds)}
    rows["operations"] = [[name, place[kind], *others] for name, kind, *others in rows["operations"]]
    head = {
        "schema": SCHEMA_VERSION, "kind": KIND, "name": graph.name, "notes": graph.notes,
        "provenance": graph.provenance, "kinds": kinds,
    }  # fmt: skip
    lines = [f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in head.items()]
    for key in ROWS:
        written = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows[key])
        lines.append(f"{json.dumps(key)}: [\n{written}\n]")
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def load_graph(path: Path | str) -> TrainingGraph:
    """Return the graph in a file; InputError for a missing or damaged one, with the row that is wrong."""
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error!s:.60})") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(f"{path}: no training graph, allowed a file with kind {KIND!r}")
    for key in [*(key for key in KEYS if key not in content), *(key for key in content if key not in KEYS)]:
        state = "is missing" if key in KEYS else "is unknown"
        raise InputError(f"{path}: key {key!r} {state}; known: {', '.join(KEYS)}")
    if type(content["schema"]) is not int or content["schema"] != SCHEMA_VERSION:
        raise InputError(f"{path}: schema is {content['schema']!r:.40}, allowed {SCHEMA_VERSION}")
    types = {**dict.fromkeys(("kinds", *ROWS), list), "notes": dict, "provenance": dict, "name": str}
    for key, kind in types.items():
        if not isinstance(content[key], kind):
            raise InputError(f"{path}: {key} is a {type(content[key]).__name__}, allowed a {kind.__name__}")
    try:
        rows = {key: content[key] for key in ("name", "storages", "edges", "notes", "provenance")}
        return training_graph(operations=with_kinds(content["operations"], content["kinds"]), **rows)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def with_kinds(operations: list, kinds: list) -> list:
    """Return operations with the names of their kinds; InputError for a kind that is no place in the list."""
    named = []
    for at, row in enumerate(operations):
        if not isinstance(row, list) or len(row) != 4:
            raise InputError(f"operation {at}: {row!r:.40}, allowed [name, kind, phase, work]")
        if type(row[1]) is not int or not 0 <= row[1] < len(kinds):
            raise InputError(f"operation {at}: kind is {row[1]!r:.40}, allowed 0..{len(kinds) - 1}, places in kinds")
        named.append([row[0], kinds[row[1]], *row[2:]])
    return named
