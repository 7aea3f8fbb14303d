"""Columns about placements: how balanced devices are, what a placement sends, and what its replicas take."""

from moe_replay.traces.glossary.column import Column

SCORED = "what is scored"

COLUMNS = (
    Column("replicas", "", "replicas of a layer: slots filled beyond one for each expert"),
    Column("useless_replicas", "", "slots of all layers whose device holds their expert already, as planned",
           title="useless"),
    Column("repaired", "", "whether layers with useless replicas were packed anew"),
    Column("split", "", "how replicas share an expert's selections: even, best (linear programming), round-robin or "
           "nearest; empty without replicas"),
    Column("max_load", "share", "largest share of a batch's selections that any device gets in any batch; mean over "
           "layers", SCORED, title="Max Load"),
    Column("max_load_worst", "share", "`max_load` of the worst layer", SCORED),
    Column("avg_max_load", "share", "largest share that any device gets of a batch's selections, mean over batches, "
           "then over layers", SCORED, title="Avg Max Load"),
    Column("fan_out", "devices", "devices that a token's experts of a layer are on", SCORED, title="fan-out"),
    Column("remote_selections", "", "selections of a token and layer that leave its home device", SCORED),
    Column("device_copies", "", "other devices than its home that get a copy of a token, in a layer", SCORED,
           title="to devices"),
    Column("node_copies", "", "other nodes than its home's that get a copy of a token, in a layer", SCORED,
           title="to nodes"),
    Column("placement_bytes", "bytes", "weights of all experts and replicas, in all layers on all devices",
           title="placed bytes"),
    Column("own_domain", "", "`device_max_over_mean` on the domain that the planner saw", title="own domain"),
    Column("worst_other", "", "`device_max_over_mean` on the worst other domain, which `scored_on` names",
           title="worst other"),
    Column("fitted_on", "", "domain whose selections the planner saw", title="fitted on"),
    Column("scored_on", "", "domain whose selections the placement is scored on", title="scored on"),
)  # fmt: skip
