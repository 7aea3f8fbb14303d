"""Columns about the memory of training iterations: orders of their operations, and ways of compiling them."""

from moe_replay.traces.glossary.column import Column

STEP = "one training iteration"
COLUMNS = (
    Column("graph", "", "captured training iteration: model, batch, `ac` for activation checkpointing"),
    Column("batch_size", "", "images, or windows of text, of a training iteration"),
    Column("layers", "", "MoE layers of the model"),
    Column("checkpoint", "", "what the backward pass computes again: none, layer, selective"),
    Column("optimizer", "", "what updates the parameters: none, sgd, adam"),
    Column("separate_experts", "", "whether each expert has weights of its own, in the place of stacks over all"),
    Column("operations", "", "operations of the graph, views left out"),
    Column("step_order", "", "eager, or how the order of the operations was found"),
    Column("interleaved", "", "whether the optimizer may run before the backward pass is over"),
    Column("step_peak_bytes", "bytes", "most bytes the allocator gave beyond parameters, optimizer state, batch", STEP),
    Column("predicted_bytes", "bytes", "peak of the order by the graph", STEP),
    Column("counted_bytes", "bytes", "peak of the storages that torch held", STEP),
    Column("lower_bound_bytes", "bytes", "no order of the graph has a lower peak", STEP),
    Column("over_bound_percent", "%", "measured peak above the lower bound", STEP),
    Column("over_eager_percent", "%", "measured peak above eager's", STEP),
    Column("over_captured_percent", "%", "measured peak above that of the captured order", STEP),
    Column("as_predicted", "", "whether the measured peak is within 0.1 % of the predicted one"),
    Column("same_bits", "", "whether all results are bit by bit those of eager"),
    Column("by", "", "which search found the order; behind `;` which argument gave the bound"),
    Column("search_s", "s", "time for finding the order"),
    Column(
        "way",
        "",
        "how an iteration runs: eager, compiled, with the pass, as one whole graph; how an exchange "
        "is executed: paced, held (small buffers), loopback (not paced), gloo, nccl",
    ),
    Column("step_ms", "ms", "median time of an iteration by the clock", STEP),
    Column("processor_ms", "ms", "median time of an iteration on all cores together", STEP),
    Column("rounds", "", "iterations that were timed, the ways in turns"),
    Column("time_over_eager", "", "time of an iteration over eager's", STEP),
)
