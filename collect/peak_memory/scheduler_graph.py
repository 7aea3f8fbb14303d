"""Inductor's scheduler nodes as a training graph: which of them touch which bytes when the generated code runs.

Inductor's own estimate counts every buffer by itself. The code that it generates differs in four ways, which this graph
follows, so that its peaks are those of the allocator:

- a buffer that only its own kernel reads is never allocated;
- the parts of a concatenation are written into the whole, which is there from the first part on (in the graph an
  operation of no cost makes it, `allocate NAME`, which an order puts right before that part);
- the results of a fallback with several outputs are all there until the last of them is taken out, and those that
  nobody takes are there too;
- aliases, mutations and results that overwrite an input touch the storage they are of.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch._inductor import ir
from torch._inductor.memory import FreeableInputBuffer
from torch._inductor.scheduler import BaseSchedulerNode, FusedSchedulerNode, SchedulerBuffer, SchedulerNode
from torch._inductor.utils import get_dtype_size
from torch._inductor.virtualized import V

from moe_replay.collect.peak_memory.inplace_updates import inplace_updates
from moe_replay.traces.training_graphs.training_graph import FROM_THE_START, TrainingGraph, training_graph

Node = BaseSchedulerNode


@dataclass
class Piece:
    """One storage: its bytes, whether it is there at the end and from the start, and the nodes that touch it."""

    size: int
    touches: set[Node]
    kept: bool = False
    from_start: bool = False


@dataclass(frozen=True)
class SchedulerGraph:
    """A training graph and what its operations are: nodes, or None for what only allocates."""

    graph: TrainingGraph
    node_N: list[Node | None]

    def nodes(self, order_N: Iterable[int]) -> list[Node]:
        """Return the nodes of an order of the graph's operations."""
        return [node for operation in order_N if (node := self.node_N[operation]) is not None]


def scheduler_graph(name: str, nodes: list[Node], pieces: dict[str, Piece]) -> SchedulerGraph:
    """Return the graph of nodes whose planning information is prepared; their order is the captured one."""
    place = {node: at for at, node in enumerate(nodes)}
    before: dict[Node, list[str]] = {}
    for root, piece in pieces.items():
        if not piece.from_start and len(firsts(piece)) > 1:
            before.setdefault(min(piece.touches, key=place.__getitem__), []).append(root)
    operations: list[tuple[str, str, str, int]] = []
    node_N: list[Node | None] = []
    makers: dict[str, int] = {}
    for node in nodes:
        for root in before.get(node, []):
            makers[root] = len(node_N)
            operations.append((f"allocate {root}", "allocate", "forward", 0))
            node_N.append(None)
        operations.append((node.get_name(), kind_of(node), "forward", 0))
        node_N.append(node)
    number = {node: at for at, node in enumerate(node_N) if node is not None}
    edges = {(number[each], number[node]) for node in nodes for each in node.mpi_node.pred_nodes}
    storages = [storage_row(piece, number, makers.get(root)) for root, piece in pieces.items()]
    graph = training_graph(name, operations, storages, sorted(edges), {"captured_with": "inductor scheduler nodes"})
    return SchedulerGraph(graph, node_N)


def storage_row(piece: Piece, number: dict[Node, int], maker: int | None) -> tuple[int, int, bool, list[int]]:
    """Return a storage as `training_graph` takes it; `maker` is the operation that only allocates it, if there is."""
    users = sorted(number[node] for node in piece.touches)
    if piece.from_start:
        return piece.size, FROM_THE_START, piece.kept, users
    producer = users.pop(0) if maker is None else maker
    return piece.size, producer, piece.kept, users


def firsts(piece: Piece) -> set[Node]:
    """Return the nodes that may be the first to touch a storage: those that wait for no other one that touches it."""
    return {node for node in piece.touches if not (ancestors(node) & operation_names(piece.touches - {node}))}


def ancestors(node: Node) -> set[str]:
    """Return the names of all operations that run before a node in every order."""
    return set(node.ancestors)


def operation_names(nodes: Iterable[Node]) -> set[str]:
    """Return the names of the operations that were fused into some nodes."""
    return {name for node in nodes for name in node.get_operation_names()}


def freed_inputs(inputs: dict[str, FreeableInputBuffer], outputs: set[str]) -> dict[str, Piece]:
    """Return the storages of what is given to a graph and freed within it."""
    return {
        name: Piece(each.mpi_buffer.size_free, set(each.mpi_buffer.succ_nodes), name in outputs, True)
        for name, each in inputs.items()
    }


def estimated_pieces(nodes: list[Node], inputs: dict[str, FreeableInputBuffer], outputs: set[str]) -> dict[str, Piece]:
    """Return the storages of a graph as inductor's own estimate counts them: every buffer by itself."""
    scheduler, pieces = V.graph.scheduler, freed_inputs(inputs, outputs)
    for node in nodes:
        for buffer in node.get_outputs():
            name, counted = buffer.get_name(), buffer.mpi_buffer
            touches = {node, *counted.succ_nodes}
            if counted.size_free and not counted.size_alloc:  # one of several results: there when all of them are
                source = scheduler.name_to_buf[buffer.node.inputs[0].get_name()]
                touches.add(scheduler.name_to_fused_node[source.defining_op_name()])
            if counted.size_free:
                pieces[name] = Piece(counted.size_free, touches, name in outputs)
    return pieces


def allocated_pieces(nodes: list[Node], inputs: dict[str, FreeableInputBuffer], outputs: set[str]) -> dict[str, Piece]:
    """Return the storages that the generated code has, by the names of the buffers that own them.

    `inputs`: what is given to the graph and freed within it; `outputs`: names of the buffers that it returns.
    """
    pieces = freed_inputs(inputs, outputs)
    for node in nodes:
        for buffer in node.get_outputs():
            if isinstance(buffer.node.layout, ir.MultiOutputLayout):
                for name, size, touches in several_outputs(node, buffer):
                    for root in roots(name):
                        pieces.setdefault(root, Piece(size, set())).touches.update(touches)
            elif not (isinstance(buffer.node.layout, ir.NoneLayout) or is_local(buffer, node, outputs)):
                touch(pieces, node, buffer, buffer.get_name() in outputs)
    for node in nodes:
        for given, result in inplace_updates(node) if is_kernel(node) else ():
            overwrite(pieces, roots(given)[0], roots(result)[0])
    whole = {id(piece): name for name, piece in reversed(pieces.items())}  # one of several names: the first
    return {name: piece for name, piece in pieces.items() if piece.touches and whole[id(piece)] == name}


def overwrite(pieces: dict[str, Piece], given: str, result: str) -> None:
    """Make one storage of an input and the result that is written over it, under the name of the input."""
    if given != result and given in pieces and result in pieces:
        joined, other = pieces[given], pieces[result]
        joined.touches |= other.touches
        joined.kept |= other.kept
        pieces[result] = joined


def touch(pieces: dict[str, Piece], node: Node, buffer: SchedulerBuffer, kept: bool) -> None:
    """Note that a node writes a buffer, and who reads it."""
    for root in roots(buffer.get_name()):
        owner = V.graph.scheduler.name_to_buf.get(root)
        if root not in pieces and owner is None:
            continue  # an input that is there all the time
        piece = pieces.get(root) or pieces.setdefault(root, Piece(bytes_of(owner.node), set()))
        piece.touches |= {node, *buffer.mpi_buffer.succ_nodes}
        piece.kept |= kept


def several_outputs(node: Node, buffer: SchedulerBuffer) -> list[tuple[str, int, set[Node]]]:
    """Return (name, bytes, who holds it) of every result of an operation that returns several."""
    fused = V.graph.scheduler.name_to_fused_node
    takers = {use.node.get_name(): use.node for use in buffer.users if isinstance(use.node, BaseSchedulerNode)}
    taken = {
        each.get_name(): each.node
        for taker in takers.values()
        for each in taker.get_outputs()
        if isinstance(each.node, ir.MultiOutput)
    }
    holders = {node, *(fused.get(name, taker) for name, taker in takers.items())}
    untaken = {
        each.get_name(): each for each in getattr(buffer.node, "outputs", []) if isinstance(each, ir.MultiOutput)
    }
    return [(name, bytes_of(each), holders) for name, each in {**untaken, **taken}.items()]


def is_local(buffer: SchedulerBuffer, node: Node, outputs: set[str]) -> bool:
    """Return whether a buffer lives in its kernel alone: all who read it are fused with who writes it."""
    scheduler, name = V.graph.scheduler, buffer.get_name()
    if not is_kernel(node) or name in outputs:
        return False
    fused = {each.get_name() for each in node.get_nodes()}
    inside = all(use.is_weak or use.get_name() in fused for use in buffer.users)
    return inside and name not in scheduler.mutation_renames and name not in scheduler.mutation_real_name


def is_kernel(node: Node) -> bool:
    """Return whether inductor writes the code of a node: neither an operation of torch's nor a template."""
    return isinstance(node, SchedulerNode | FusedSchedulerNode) and not (node.is_extern() or node.is_template())


def roots(name: str) -> list[str]:
    """Return the buffers that own the bytes of one: itself, what it mutates, or what it is a view of."""
    scheduler = V.graph.scheduler
    if name in scheduler.mutation_real_name:
        return roots(scheduler.mutation_real_name[name])
    buffer = scheduler.name_to_buf.get(name)
    if buffer is None:
        return [name]
    if isinstance(buffer.node.layout, ir.NonOwningLayout):
        return roots(whole_of(buffer.node.layout.view).get_name())
    aliased = buffer.node.get_inputs_that_alias_output()
    return [root for each in aliased for root in roots(each)] or [name]


def whole_of(view: ir.IRNode) -> ir.IRNode:
    """Return the buffer behind views and boxes."""
    while isinstance(view, ir.BaseView | ir.MutableBox):
        view = view.unwrap_view() if isinstance(view, ir.BaseView) else view.data
    return view


def bytes_of(buffer: ir.Buffer) -> int:
    """Return the bytes of a buffer, at the sizes that the graph is compiled for."""
    numbers = V.graph.sizevars.optimization_hint(buffer.get_numel(), fallback=0)
    return int(numbers) * get_dtype_size(buffer.get_dtype())


def kind_of(node: Node) -> str:
    """Return what a node is: the target of an operation that torch runs, or the kind of kernel."""
    target = getattr(node.node, "python_kernel_name", None) or getattr(node.node, "op_overload", None)
    return str(target or type(node).__name__)
