"""Axes of linked devices: what is swept of links and of how tokens are exchanged, made into clusters."""

from __future__ import annotations

from itertools import product

from moe_replay.simulate.config.cluster_config import ClusterConfig, speeds
from moe_replay.traces.clusters.link_file import machine_by_name
from moe_replay.traces.errors import InputError

LINKS = "links"  # the axis that the others need: machines by name or file, `none` for devices without links
# As in `simulate run`; what a link file says itself is empty here.
CLUSTER_FIELDS = {
    LINKS: "str | None", "nodes": "int", "micro_batches": "int", "mode": "str", "unit": "str", "split": "str",
    "homes": "str", "dispatch_bytes": "int", "combine_bytes": "int", "shared_experts": "int",
}  # fmt: skip
OF_FILE = ("mode", "unit", "dispatch_bytes", "combine_bytes")


def clusters_of(axes: dict[str, list]) -> list[ClusterConfig | None]:
    """Return the clusters of every combination of these axes; [None], devices without links, where there is no axis.

    InputError for an axis that needs links, and for links that do not say how many bytes a token has.
    """
    if not axes:
        return [None]
    linked = [links for links in axes.get(LINKS, ()) if links is not None]
    rest = {name: values for name, values in axes.items() if name != LINKS}
    if not linked and rest:
        raise InputError(f"axis {next(iter(rest))} has no meaning without links")
    found: list[ClusterConfig | None] = [None] if None in axes[LINKS] else []
    for links in linked:
        for values in product(*rest.values()):
            found.append(cluster_of(links, dict(zip(rest, values, strict=True))))
    return found


def cluster_of(links: str, fields: dict) -> ClusterConfig:
    """Return the cluster of a machine's links, by name or file, with these fields."""
    name, file = machine_by_name(links)
    said = {key: getattr(file, key) for key in OF_FILE if getattr(file, key) is not None}
    whole = {**speeds(file), **said, **fields}
    for key in ("dispatch_bytes", "combine_bytes"):
        if key not in whole:
            raise InputError(f"links {links} do not say how many bytes a token has; allowed: {key}, or it in the file")
    return ClusterConfig(links=name, **whole)
