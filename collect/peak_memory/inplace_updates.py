"""Which kernels write a result over one of their inputs, whatever the order: such a pair of buffers is one storage.

Inductor decides it when it writes a kernel, from what has run by then: an input that nobody else still waits for may be
overwritten. Here only those are taken for which that holds in every order, since all other readers run before. Others
may turn out to be overwritten too, by luck of the order; the code then needs less than was predicted.
"""

from collections.abc import Iterator

from torch._inductor import config, ir
from torch._inductor.codegen.wrapper import can_match_buffer_size
from torch._inductor.scheduler import BaseSchedulerNode, NopKernelSchedulerNode, SchedulerBuffer, SchedulerNode
from torch._inductor.virtualized import V

NEVER = (ir.NoneLayout, ir.MultiOutputLayout, ir.MutationLayoutSHOULDREMOVE, ir.CommBufferLayout)


def inplace_updates(node: BaseSchedulerNode) -> Iterator[tuple[str, str]]:
    """Yield (input, result that overwrites it), names of buffers, for a kernel that inductor writes."""
    taken: set[str] = set()
    if not config.inplace_buffers:
        return
    for part in node.get_nodes():
        for result in part.get_outputs() if isinstance(part, SchedulerNode) else ():
            if not is_plain(result):
                continue
            for read in part.read_writes.reads:
                given = V.graph.scheduler.name_to_buf.get(read.name)
                if given is not None and read.name not in taken and is_overwritten(given, result, part, node):
                    taken.add(read.name)
                    yield read.name, result.get_name()
                    break


def is_plain(result: SchedulerBuffer) -> bool:
    """Return whether a result has an allocation of its own to save."""
    buffer = result.node
    aliased = buffer.get_inputs_that_alias_output() or buffer.get_mutation_names()
    return buffer.should_allocate() and not aliased and not isinstance(buffer.layout, ir.CommBufferLayout)


def is_overwritten(
    given: SchedulerBuffer, result: SchedulerBuffer, part: SchedulerNode, node: BaseSchedulerNode
) -> bool:
    """Return whether `part` of a kernel writes a result over an input in every order."""
    name = given.get_name()
    if isinstance(given.defining_op, NopKernelSchedulerNode) or isinstance(given.node.layout, NEVER):
        return False
    if name in V.graph.never_reuse_buffers or given.node.get_inputs_that_alias_output():
        return False
    last = [use for use in given.users if use.get_name() not in part.ancestors]
    if len(last) != 1 or last[0].node is not part or not last[0].can_inplace:
        return False
    # All of a kernel's accesses to the input have to be the same ones, or one part would read what another wrote.
    reads = {
        each for other in node.get_nodes() for each in other.read_writes.reads_and_writes() if each.name == name
    }  # fmt: skip
    return len(reads) == 1 and can_match_buffer_size(given.node, result.node)
