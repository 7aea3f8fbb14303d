"""From torch's operations to a training graph: which operation touches which storage, and what must come before what.

The traced graph is run once, and the storages of its values are looked at: what returns a storage that was there before
and writes nothing is a view, whatever its name. Views are no operations; their users touch the storage itself. What
writes in place comes after all that touched the storage before it, and before all that touch it later.
"""

from __future__ import annotations

import operator
import weakref
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import fx

from moe_replay.collect.graphs.random_draws import DRAWN_FROM, draw_again
from moe_replay.collect.graphs.step_state import StepState
from moe_replay.collect.graphs.step_tracing import PHASE
from moe_replay.traces.errors import InputError

Slot = tuple[fx.Node, int | None]  # where a value is kept: an operation's result, or one of its several results


@dataclass
class Storage:
    """A piece of memory. `producer`: the operation that made it; None: it was there before, in every order."""

    size: int
    producer: int | None
    users: list[int] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    kept: bool = False
    writer: int | None = None  # the last operation that wrote it in place
    readers: list[int] = field(default_factory=list)  # those since, or since the beginning


@dataclass(frozen=True)
class Program:
    """What runs: operations in captured order, the storages they make with the slots that hold them, and edges."""

    traced: fx.GraphModule
    operations: tuple[fx.Node, ...]
    storages: tuple[Storage, ...]
    edges: tuple[tuple[int, int], ...]

    @property
    def outputs(self) -> list[fx.Node]:
        """The nodes whose values outlive the iteration."""
        return list(self.traced.graph.output_node().all_input_nodes)


class Lowering:
    """Runs a traced graph node by node and follows its storages."""

    def __init__(self, traced: fx.GraphModule, state: StepState) -> None:
        self.traced, self.inputs = traced, iter(state.copied().flat)
        self.values: dict[fx.Node, object] = {}
        self.known: weakref.WeakKeyDictionary[torch.UntypedStorage, Storage] = weakref.WeakKeyDictionary()
        self.operations: list[fx.Node] = []
        self.storages: list[Storage] = []
        self.edges: set[tuple[int, int]] = set()
        self.waits: dict[fx.Node, set[int]] = {}  # the operations that a node's value comes from

    def lower(self) -> Program:
        """Return the program."""
        dead_after = last_uses(self.traced.graph)
        for node in self.traced.graph.nodes:
            if node.op == "output":
                for value in map(self.values.get, node.all_input_nodes):
                    self.storage_of(value).kept = True
                break
            self.waits[node] = set().union(*(self.waits[each] for each in node.all_input_nodes))
            self.values[node] = self.run(node)
            for each in dead_after[node]:
                del self.values[each]
        made = tuple(each for each in self.storages if each.producer is not None)
        return Program(self.traced, tuple(self.operations), made, needed_edges(len(self.operations), made, self.edges))

    def run(self, node: fx.Node) -> object:
        """Return a node's value; an operation among them is noted."""
        if node.op == "placeholder":
            return self.resident(next(self.inputs))
        if node.op == "get_attr":
            return self.resident(getattr(self.traced, node.target))
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), self.values.__getitem__)
        if node.target is operator.getitem:
            return args[0][args[1]]
        given = list(tensors_in((args, kwargs)))
        before = [bytes_of(each).clone() for each in given]
        draw_again(node)  # sizes may depend on what is drawn
        result = node.target(*args, **kwargs)
        touched = [self.storage_of(each) for each in given]
        written = [self.storage_of(each) for each in tensors_in(written_in(node, args, kwargs))]
        # Some schemas do not tell: batch normalisation's running mean is written by an operation that says it is read.
        changed = zip(given, before, strict=True)
        written += [self.storage_of(each) for each, was in changed if not torch.equal(bytes_of(each), was)]
        results = results_of(node, result)
        makes = not all(map(self.is_known, results.values()))
        if makes or written or DRAWN_FROM in node.meta or not touched:
            self.note(node, results, touched, written)
        return result

    def resident(self, tensor: torch.Tensor) -> torch.Tensor:
        """Take a tensor that is there in every order."""
        if not self.is_known(tensor):
            self.add(tensor, None)
        return tensor

    def add(self, tensor: torch.Tensor, producer: int | None) -> Storage:
        """Return a new storage."""
        storage = self.known[tensor.untyped_storage()] = Storage(tensor.untyped_storage().nbytes(), producer)
        self.storages.append(storage)
        return storage

    def is_known(self, tensor: torch.Tensor) -> bool:
        """Say whether a tensor's storage was there before."""
        return tensor.untyped_storage() in self.known

    def storage_of(self, tensor: torch.Tensor) -> Storage:
        """Return the storage of a tensor that an operation made or that was there before."""
        return self.known[tensor.untyped_storage()]

    def note(
        self, node: fx.Node, results: dict[int | None, torch.Tensor], touched: list[Storage], written: list[Storage]
    ) -> None:
        """Add an operation: what it touches, writes and makes, and what it has to wait for."""
        place = len(self.operations)
        self.operations.append(node)
        self.edges.update((each, place) for each in self.waits[node])
        for storage in {id(each): each for each in touched}.values():
            self.touch(storage, place, any(storage is each for each in written))
        for where, each in results.items():
            storage = self.storage_of(each) if self.is_known(each) else self.add(each, place)
            storage.slots.append((node, where))
        self.waits[node] = {place}

    def touch(self, storage: Storage, place: int, writes: bool) -> None:
        """Let an operation touch a storage that was there before it."""
        storage.users.append(place)
        before = [storage.writer] if storage.writer is not None else []
        if writes:
            before += storage.readers
            storage.writer, storage.readers = place, []
        else:
            storage.readers.append(place)
        self.edges.update((each, place) for each in before)


def last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Return for every node those whose values nobody needs behind it."""
    last = {}
    for node in graph.nodes:
        for each in (node, *node.all_input_nodes):
            last[each] = node
    dead = defaultdict(list)
    for node, user in last.items():
        dead[user].append(node)
    return dead


def tensors_in(values: object) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested arguments."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
    elif isinstance(values, list | tuple):
        for each in values:
            yield from tensors_in(each)


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole storage of a tensor as bytes."""
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())


def written_in(node: fx.Node, args: tuple, kwargs: dict) -> list[object]:
    """Return the arguments that an operation writes in place, by its schema."""
    schema = node.target._schema.arguments  # no public name; torch's own pages on dispatch modes read it
    given = {each.name: value for each, value in zip(schema, args, strict=False)} | kwargs
    return [given.get(each.name) for each in schema if each.alias_info is not None and each.alias_info.is_write]


def results_of(node: fx.Node, result: object) -> dict[int | None, torch.Tensor]:
    """Return an operation's tensors by their place in its result, None where it is the result.

    InputError where they are nested deeper.
    """
    if not isinstance(result, list | tuple):
        result = {None: result}
    elif any(isinstance(each, list | tuple) for each in result):
        raise InputError(f"operation {node.name} ({node.target}) returns lists in a tuple, which is not supported")
    else:
        result = dict(enumerate(result))
    return {place: each for place, each in result.items() if isinstance(each, torch.Tensor)}


def needed_edges(count: int, storages: Sequence[Storage], edges: set[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the edges that do not follow from others: a producer comes before its users, and whoever before those."""
    before = [set() for _ in range(count)]
    for first, second in edges:
        before[second].add(first)
    produced = {(each.producer, user) for each in storages for user in each.users}
    for first, second in produced:
        before[second].add(first)
    needed, ancestors = [], [0] * count  # sets of operations as the bits of one number
    for place in range(count):
        for first in before[place]:
            ancestors[place] |= ancestors[first]
        needed += [
            (first, place) for first in sorted(before[place])
            if (first, place) not in produced and not ancestors[place] >> first & 1
        ]  # fmt: skip
        for first in before[place]:
            ancestors[place] |= 1 << first
    return tuple(needed)


def phases(program: Program) -> list[str]:
    """Return the phase of every operation."""
    return [node.meta[PHASE] for node in program.operations]
