"""`python -m simulate all-to-all`: what ports would have taken for the exchanges that `collect ports` executed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.config.cluster_config import ClusterConfig, speeds
from moe_replay.simulate.policies.cluster.one_exchange import exchanged, one_link
from moe_replay.traces.clusters.link_file import machine_by_name
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import mixed_digest, save_mixed
from moe_replay.traces.runs.port_log import (
    PREDICTED,
    PREDICTED_COLUMNS,
    exchanges_in,
    load_port_log,
    port_table,
)


def all_to_all_command(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Table of `collect ports`.")],
    out: Annotated[
        Path, typer.Option(metavar="TABLE.parquet", help="Table of all messages, when each would be there.")
    ],
    links: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Links in place of those that were fitted to the log.")
    ] = None,
    force: Force = False,
) -> None:
    """Predict when every message of the executed exchanges would have been there, by the ports of linked devices alone.

    Each way of executing has the link that was fitted to its calibration exchanges, which are predicted too and are
    told apart. `python -m analysis tables --only all_to_all` compares.

    Example: `python -m simulate all-to-all ports.parquet --out predicted.parquet`
    """
    check_output(out, [log], force)
    table, header = load_port_log(log)
    clusters = clusters_of(header, links)
    rows = []
    for exchange in exchanges_in(table):
        if exchange.way not in clusters:
            raise InputError(f"{log}: holds no link of {exchange.way}; allowed: --links NAME|FILE")
        for message in exchanged(exchange.bytes_DD, clusters[exchange.way]):
            ends = message.source, message.destination
            rows.append((*exchange.keys, *ends, message.bytes, message.start_ns, message.end_ns))
    about = {
        "executed": mixed_digest(table["end_ns"].combine_chunks()),
        "links": [
            {"way": way, "latency_ns": each.inside_latency_ns, "bytes_per_s": each.inside_bytes_per_s}
            for way, each in clusters.items()
        ],
    }
    with staged(out, [log], force) as written:
        save_mixed(written, port_table(rows, PREDICTED_COLUMNS), {**about, "provenance": provenance()}, PREDICTED)
    print(f"{out}: {len(rows)} messages of {len({row[:4] for row in rows})} exchanges")


def clusters_of(header: dict, links: str | None) -> dict[str, ClusterConfig]:
    """Return the linked devices of every way in a log: by its fitted link, or all by the one that is asked for."""
    if links is None:
        return {link["way"]: one_link(link["latency_ns"], link["bytes_per_s"]) for link in header["links"]}
    name, found = machine_by_name(links)
    asked = ClusterConfig(links=name, dispatch_bytes=1, combine_bytes=1, **speeds(found) | {"nics": None})
    return dict.fromkeys(header["ways"], asked)
