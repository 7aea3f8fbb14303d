"""Files of what was placed: the table of scores, that of domains, and every placement by itself."""

from __future__ import annotations

import re
from pathlib import Path

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.placing_plan import Placed
from moe_replay.simulate.placing.scores import useless_replicas
from moe_replay.traces.command_line.files import sha256_of, write_json, write_rows
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.placements.expert_placement import ExpertPlacement, save_placement

TABLE, DOMAINS = "placements", "domains"


def write_placed(
    folder: Path, made: Placed, domains: list[dict], model: ModelInfo, inputs: dict[str, str], known: str
) -> list[str]:
    """Write everything into a folder; return a line for each file, and for each placement that cannot be one."""
    folder.mkdir(parents=True, exist_ok=True)
    said = []
    for name, rows in ((TABLE, made.rows), (DOMAINS, domains)):
        if rows:
            write_rows(folder / f"{name}.csv", rows)
            about = {"table": name, "rows": len(rows), "sha256": sha256_of(folder / f"{name}.csv"), "inputs": inputs}
            write_json(folder / f"{name}.json", about | {"known": known, "provenance": provenance()})
            said.append(f"{name}.csv: {len(rows)} rows")
    for (method, redundant), expert_LP in made.expert_LP.items():
        name, shape = file_name(method, redundant), made.shapes[redundant]
        if useless_replicas(expert_LP, shape.devices).any():
            said.append(f"{name}: not written, it holds an expert twice on a device; allowed: --repair")
            continue
        how = provenance() | {"planner": method, "redundant": redundant, "known": known, "inputs": inputs}
        save_placement(as_placement(expert_LP, shape, model), folder / name, how)
        said.append(name)
    return said


def file_name(method: str, redundant: int) -> str:
    """Return the name of a placement's file."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', method)}-r{redundant}.placement.json"


def as_placement(expert_LP: object, shape: ClusterShape, model: ModelInfo) -> ExpertPlacement:
    """Return a plan as the placement of a model; InputError for an expert twice on a device."""
    return ExpertPlacement(
        model=model.name, experts=model.real_experts, devices=shape.devices, nodes=shape.nodes,
        layer_ids=model.layer_ids, expert_LP=expert_LP,
    )  # fmt: skip
