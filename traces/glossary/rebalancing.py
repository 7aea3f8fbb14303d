"""Columns about placements over time: which rule, what it reaches in balance, and what it moves."""

from moe_replay.traces.glossary.column import TRACE, Column

HELD_OUT_HALF = "second half of the points"

COLUMNS = (
    Column("phase", "", "rows that count: all, prefill or decode"),
    Column("planner", "", "planner by which experts are placed"),
    Column("redundant", "", "slots beyond one for each expert of a layer"),
    Column("plan_interval", "points", "experts are placed anew so often; 0: never", title="every"),
    Column("plan_window", "points", "how many points a plan knows, the last ones", title="window"),
    Column("adopt_threshold", "", "a plan is adopted where the old heaviest device has so many times the load of the "
           "plan's; 0: always", title="threshold"),
    Column("plan_balanced", "", "a layer whose device max/mean was at most this is not planned anew"),
    Column("relabelled", "", "1 where devices of a plan are renamed so that the fewest copies are made"),
    Column("first_placement", "", "placement before the first plan: contiguous, or of the first point, which "
           "is not scored then"),
    Column("nodes", "", "nodes that the devices are in, equally many in each"),
    Column("points", "", "points in time that are scored: iterations, or batches of rows"),
    Column("device_max_over_mean", "", "load of the heaviest device over the mean of all, an expert's replicas sharing "
           "equally; mean over points, then over layers", TRACE, title="device max/mean"),
    Column("device_max_over_mean_worst", "", "the same of the worst layer", TRACE),
    Column("plans_per_layer", "", "how often a layer was planned anew", TRACE),
    Column("adoptions_per_layer", "", "how often a layer adopted a plan", TRACE, title="adoptions"),
    Column("copies_per_layer", "", "experts, in all, that were not on their device before; mean of layers", TRACE),
    Column("copies_per_adoption", "", "the same per layer and adoption", TRACE, title="moved"),
    Column("rebalances", "", "points before which some layer copied an expert", TRACE),
    Column("bytes_per_rebalance", "bytes", "what all layers copy at such a point, in the mean", TRACE,
           title="bytes/rebalance"),
    Column("stall_ms", "ms", "least time of those copies, layer by layer through the fullest port of a device: what a "
           "synchronous rebalance stalls", TRACE, title="stall ms"),
    Column("hidden_steps", "", "steps behind which those copies are made"),
    Column("stall_hidden_ms", "ms", "what of `stall_ms` is longer than those steps", TRACE, title="left ms"),
    Column("move_cost", "", "what a copy costs, in max/mean of a layer and point"),
    Column("cost_per_point", "", "device max/mean and the price of copies, mean over points and layers", TRACE,
           title="paid"),
    Column("regret", "share", "`cost_per_point` over that of the clairvoyant, less 1", TRACE),
    Column("clairvoyant_cost_per_point", "", "the least of any path through the first placement and the plan of every "
           "point", TRACE, title="clairvoyant"),
    Column("clairvoyant_device_max_over_mean", "", "device max/mean on that path", TRACE),
    Column("clairvoyant_copies_per_layer", "", "copies on that path after its first point", TRACE),
    Column("clairvoyant_first_copies", "", "copies from the first placement to that of its first point", TRACE),
    Column("time_point", "", "number of a point, from 0"),
    Column("iteration", "", "what the source calls a point: its iteration, or the number of a batch's first row"),
    Column("adopted", "", "1 where a layer adopted a plan before the point"),
    Column("slot_copies", "", "copies that a layer made before the point"),
    Column("predictor", "", "calibrated: a line through the heaviest device's load, fitted on the first half; "
           "published: the paper's own estimate; constants: its cost model with the artifact's constants"),
    Column("a_ms", "ms", "time of a step whose heaviest device has nothing to do, as calibrated"),
    Column("us_per_selection", "us", "time of each selection of the heaviest device, as calibrated"),
    Column("mape_percent", "%", "mean absolute error of predicted times, of what was measured", HELD_OUT_HALF),
    Column("r2", "share", "share of the variance of measured times that is predicted", HELD_OUT_HALF),
    Column("every_points", "points", "SmartMoE's rule plans so often"),
    Column("published_setting", "", "of figure 11 devices-microbatch, of figure 13 how often the rule plans"),
    Column("predicted_speed_up", "", "mean time with a static placement over that with an adaptive one", HELD_OUT_HALF),
    Column("measured_speed_up", "", "the same of measured times", HELD_OUT_HALF),
    Column("changes", "", "points at which the rule, replayed, adopted another placement"),
    Column("published_changes", "", "the same as SmartMoE's log says"),
    Column("half", "", "1: times that were fitted, 2: times that were scored"),
    Column("heaviest", "selections", "load of the heaviest device"),
    Column("measured_ms", "ms", "time that SmartMoE's authors measured"),
    Column("calibrated_ms", "ms", "time as calibrated"),
)  # fmt: skip
