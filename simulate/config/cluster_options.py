"""Options of linked devices, and what they come to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import typer

from moe_replay.simulate.config.cluster_config import HOMES, SPLITS, ClusterConfig, speeds
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.traces.clusters.link_file import MODES, UNITS, LinkFile, machine_by_name
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.units import COUNT, SIZE
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import ModelInfo

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}  # bytes of one number


@dataclass(frozen=True)
class LinkOptions:
    """Linked devices: how fast their links are, and how tokens are exchanged. All of it needs `--links`."""

    links: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Links between devices (`simulate costs` has names); several with commas.",
        ),
    ] = None
    micro_batches: Annotated[
        str | None,
        typer.Option(help="Linked lockstep: parts of a step; default 1; several with commas."),
    ] = None
    mode: Annotated[
        str | None, typer.Option(help=f"Linked: {', '.join(MODES)}; default the file's, else the first.")
    ] = None
    unit: Annotated[
        str | None,
        typer.Option(
            help=f"Linked: a token is sent once to each {' or '.join(UNITS)}; default the file's, or the first."
        ),
    ] = None
    split: Annotated[
        str | None, typer.Option(help=f"Linked: replicas are taken {', '.join(SPLITS)}; several with commas.")
    ] = None
    shared_experts: Annotated[
        str | None,
        typer.Option(
            metavar="N|trace",
            help="Linked: shared experts that run at home beside messages; default 0, in dense blocks; several.",
        ),
    ] = None
    homes: Annotated[
        str | None,
        typer.Option(help=f"Linked: {', '.join(HOMES)}: the trace's ranks, else by sequence; or modulo the devices."),
    ] = None
    dispatch_bytes: Annotated[
        int | None,
        SIZE.option(low=1, help="Linked: of a token on its way to experts; default the file's, or the model's."),
    ] = None
    combine_bytes: Annotated[int | None, SIZE.option(low=1, help="Linked: of a token's results, likewise.")] = None

    def clusters(self, model: ModelInfo, nodes: int | None = None) -> list[ClusterConfig | None]:
        """Return the clusters of all lists, in so many nodes (1), [None] where devices are not linked.

        InputError for an option that needs `--links`, and where nothing says how many bytes a token has.
        """
        if self.links is None:
            others = [name for name, value in dataclasses.asdict(self).items() if value is not None]
            if others:
                raise InputError(f"--{others[0].replace('_', '-')} has no meaning without --links")
            return [None]
        lists = (
            [machine_by_name(word) for word in self.links.split(",")],
            [1] if self.micro_batches is None else command.numbers(self.micro_batches, "--micro-batches"),
            [SPLITS[0]] if self.split is None else self.split.split(","),
            [shared_of(word, model) for word in given(self.shared_experts, "0").split(",")],
        )
        return [
            ClusterConfig(
                links=name, nodes=nodes or 1, micro_batches=micro_batches, split=split,
                homes=given(self.homes, HOMES[0]), shared_experts=shared, **self._exchange(found, model),
                **speeds(found),
            )
            for (name, found), micro_batches, split, shared in product(*lists)
        ]  # fmt: skip

    def _exchange(self, found: LinkFile, model: ModelInfo) -> dict:
        """Return how tokens are exchanged: as asked, else as the file says, else the plainest way."""
        return {
            "mode": given(self.mode, found.mode, MODES[0]), "unit": given(self.unit, found.unit, UNITS[0]),
            "dispatch_bytes": self.dispatch_bytes or found.dispatch_bytes or bytes_of_token(model, "--dispatch-bytes"),
            "combine_bytes": self.combine_bytes or found.combine_bytes or bytes_of_token(model, "--combine-bytes"),
        }  # fmt: skip


@dataclass(frozen=True)
class ClusterOptions(LinkOptions):
    """The same, with the nodes that the devices are in."""

    nodes: Annotated[int | None, COUNT.option(low=1, help="Linked: nodes that the devices are in; default 1.")] = None

    def linked(self, configs: list[RunConfig], model: ModelInfo) -> list[RunConfig]:
        """Return every configuration over every cluster; InputError for what links do not model."""
        clusters = self.clusters(model, self.nodes)
        if clusters != [None] and any(config.load is not None for config in configs):
            raise InputError("--load is a share of a capacity that is not known of linked devices, allowed: --rate")
        # What steps alone have is left out under queues, unless queues are all there is: then it is refused.
        several = any(config.scheduler == "lockstep" for config in configs)
        pairs = [
            (config, cluster.under(config.scheduler) if several and cluster else cluster)
            for config in configs
            for cluster in clusters
        ]
        return [dataclasses.replace(config, cluster=cluster) for config, cluster in dict.fromkeys(pairs)]


def given(*values: str | None) -> str:
    """Return the first value that is given, an empty one included."""
    return next(value for value in values if value is not None)


def shared_of(word: str, model: ModelInfo) -> int:
    """Return how many shared experts run beside messages; InputError where the trace is asked and tells of none."""
    if word != "trace":
        return command.numbers(word, "--shared-experts", 0)[0]
    if not model.shared_experts:
        raise InputError("--shared-experts trace: the trace's model has none; allowed: a number")
    return model.shared_experts


def bytes_of_token(model: ModelInfo, option: str) -> int:
    """Return the bytes of a token's state in a model; InputError where the trace does not tell them."""
    if model.d_model is None or model.dtype not in DTYPES:
        raise InputError(
            f"the trace does not say how many bytes a token has (d_model {model.d_model}, dtype {model.dtype}); "
            f"allowed: {option} N, or [exchange] {option[2:].replace('-', '_')} in the link file"
        )
    return model.d_model * DTYPES[model.dtype]
