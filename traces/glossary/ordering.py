"""Columns about the order of a training graph's operations and its peak memory."""

from moe_replay.traces.glossary.column import Column

COLUMNS = (
    Column("order_policy", "", "which policy ordered the operations"),
    Column("refused", "", "why the policy cannot order such a graph; empty where it did"),
    Column("order_peak_bytes", "bytes", "most bytes at any step, above what is always there", title="peak"),
    Column("order_bound_bytes", "bytes", "no order has a lower peak: the best bound of all policies", title="bound"),
    Column("order_gap", "share", "peak over bound, less 1: how much a better order could save at most", title="gap"),
    Column("proved", "", "whether peak and bound are equal, so that no order is better"),
    Column("found_by", "", "which searches found the order; behind the semicolon, which argument gave the bound"),
    Column("first", "", "the operation of a fused pair that makes what the other reads"),
    Column("second", "", "the operation of a fused pair that reads it"),
    Column("bound_change", "share", "bound with the pair fused over that without, less 1"),
    Column("peak_change", "share", "best peak with the pair fused over that without, less 1", title="largest change"),
    Column("effect", "", "of the fusion on the best peak: raised, unchanged, lowered"),
    Column("pairs", "", "fused pairs of one effect"),
    Column("vetoed", "", "whether the peak is raised for certain: the bound is above the best peak without"),
)
