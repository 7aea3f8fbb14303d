"""Columns about layers of published shapes and the link from host memory: what a device takes for them."""

from moe_replay.traces.glossary.column import Column

OF_ALL = "all experts of the layer and all repetitions"

COLUMNS = (
    Column("name", "", "name under which a cost table or a link is asked for"),
    Column("shape", "", "layer shape of a published model; `-by-N`: both widths divided by N"),
    Column("dtype", "", "type of the experts' weights and inputs"),
    Column("form", "", "how experts ran and were timed: loop (in the executor's loop), wall (alone), event (alone, by "
           "the GPU's clock), looped or grouped (all of a layer, one after another or in two grouped products)"),
    Column("times", "", "times that were measured", OF_ALL),
    Column("expert_us", "us", "median time of an expert's batch; of a step of all experts, its share", OF_ALL),
    Column("lower_quartile_us", "us", "lower quartile of the time of an expert's batch", OF_ALL),
    Column("upper_quartile_us", "us", "upper quartile of the time of an expert's batch", OF_ALL),
    Column("token_us", "us", "median time of an expert's batch over its tokens", OF_ALL),
    Column("teraflops", "TFLOP/s", "multiplications and additions of the expert's three matrices over the median time"),
    Column("weights_gigabytes_per_s", "GB/s", "bytes of the expert's weights over the median time"),
    Column("break_even_tokens", "tokens", "time of the smallest batch over the least time per token: below it a batch "
           "pays for weights and launches, above it for its tokens"),
    Column("break_even_token_us", "us", "time per token at `break_even_tokens`, between the sizes that were measured"),
    Column("host_memory", "", "host memory that is copied from: pinned, pageable, or host where there is no GPU"),
    Column("copies", "", "copies at once, each on a stream of its own"),
    Column("copy_bytes", "bytes", "bytes of one copy"),
    Column("took_ns", "ns", "how long the call or the step took, or how long until all copies were whole"),
    Column("copy_us", "us", "median time until all copies at once are whole"),
    Column("fitted_us", "us", "what the fitted link says that this takes"),
    Column("latency_us", "us", "fitted: time of a copy beside its bytes"),
    Column("gigabytes_per_s", "GB/s", "fitted: bytes per second of all copies at once together"),
    Column("copied_gigabytes_per_s", "GB/s", "bytes of all copies at once over their median time"),
    Column("fit_error_percent", "%", "median over sizes of how far the fitted link is from the median time"),
)  # fmt: skip
