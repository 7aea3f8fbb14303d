"""Columns about MoE layers as serving frameworks ran them, and about what the skew of real routing costs there."""

from moe_replay.traces.glossary.column import Column

SLOWEST = "mean over steps and layers"

COLUMNS = (
    Column("framework", "", "serving framework whose kernels were measured: vllm, sglang, trtllm"),
    Column("framework_version", "", "its version", title="version"),
    Column("part", "", "of a served layer: layer (choice, experts, sum of results), dispatch or combine (exchange)"),
    Column("kernel", "", "which code of the framework ran; of an exchange with its type and processors"),
    Column("spread", "", "how selections spread over experts: balanced, power_law_A (exponent A), or those of a trace"),
    Column("layer_us", "us", "time of a MoE layer on the slowest device, without exchange: measured, for a trace by "
           "the rule", SLOWEST, title="layer us"),
    Column("over_balanced", "", "`layer_us` over that of balanced selections: what skew costs", SLOWEST,
           title="x balanced"),
    Column("rule_us", "us", "`layer_us` by the rule, from balanced rows, active experts and load of every device",
           SLOWEST, title="rule us"),
    Column("rule_error_percent", "%", "`rule_us` above what was measured; empty for traces, which nobody measured",
           title="rule error %"),
    Column("active_experts_share", "share", "experts of the heaviest device that have selections", SLOWEST,
           title="active"),
    Column("exchange_us", "us", "measured dispatch and combine of equal loads, by the quickest kernel; empty: not "
           "measured", title="exchange us"),
    Column("experts_us", "us", "batches of the slowest device one after another, each at the cost of one expert",
           SLOWEST, title="experts us"),
    Column("experts_dtype", "", "type of the experts' weights in the costs of the cluster model"),
    Column("roofline_us", "us", "the same at the roofline of the GPU: an estimate", SLOWEST, title="roofline us"),
    Column("cluster_us", "us", "time of a layer by the cluster model with these costs and links, exchange and all, "
           "without dense blocks", SLOWEST, title="cluster us"),
    Column("cluster_over_balanced", "", "`cluster_us` over that of balanced selections", SLOWEST,
           title="cluster x balanced"),
)  # fmt: skip
