"""Columns about linked devices: their links, how tokens are exchanged, and what the devices spend their time on."""

from moe_replay.traces.glossary.column import MEASURED, Column

REPEATED = "median over repetitions"

COLUMNS = (
    Column("links", "", "links between devices: the machine's name or the file's"),
    Column("nics", "", "network ports of a node, empty: one for each device"),
    Column("inside_latency_ns", "ns", "time of a message inside a node beside its bytes"),
    Column("inside_bytes_per_s", "bytes/s", "bandwidth of a device's port inside its node, each way"),
    Column("network_latency_ns", "ns", "time of a message between nodes beside its bytes"),
    Column("network_bytes_per_s", "bytes/s", "bandwidth of a network port, each way"),
    Column("dispatch_bytes", "bytes", "bytes of one token on its way to experts"),
    Column("combine_bytes", "bytes", "bytes of one token's results on their way back"),
    Column("micro_batches", "", "parts that a step is cut into", title="M"),
    Column("homes", "", "where tokens are at home: on the trace's ranks or else by sequence, by sequence, or by row"),
    Column("dense_share", "share", "time of the devices in dense blocks", MEASURED, title="dense time"),
    Column("expert_share", "share", "time of the devices in experts", MEASURED, title="expert time"),
    Column("wire_share", "share", "time in which a device idles while a message for it is under way", MEASURED,
           title="wire"),
    Column("waiting_share", "share", "time in which a device idles and nothing for it is under way", MEASURED,
           title="waiting"),
    Column("straggler_share", "share", "time by which a layer's slowest device exceeds the mean of all in experts, all "
           "steps together", MEASURED, title="straggler"),
    Column("inside_bytes", "bytes", "bytes of messages inside nodes", MEASURED, title="bytes inside"),
    Column("network_bytes", "bytes", "bytes of messages between nodes", MEASURED, title="bytes between"),
    Column("messages", "", "messages between devices", MEASURED),
    Column("micro_batch", "", "part of the step that the batch or message is of"),
    Column("kind", "", "of a message: 0 dispatch (tokens to experts), 1 combine (results back)"),
    Column("destination", "", "device that the message is for"),
    Column("bytes", "bytes", "bytes of the message"),
    Column("queued_ns", "ns", "when the message was made"),
    Column("inside_gigabytes_per_s", "GB/s", "bandwidth of a device's port inside its node, each way",
           title="inside GB/s"),
    Column("purpose", "", "of an executed exchange: a link is fitted to it (calibration), or the fit is checked on it"),
    Column("pattern", "", "how an exchange's bytes are shared out among devices"),
    Column("exchanges", "", "exchanges that are compared"),
    Column("exchange_bytes", "bytes", "bytes of all messages of an exchange"),
    Column("took_ms", "ms", "time until the last message of an exchange is there", REPEATED),
    Column("took_least_ms", "ms", "the same, of the shortest repetition"),
    Column("took_most_ms", "ms", "the same, of the longest repetition"),
    Column("ports_ms", "ms", "the same by the port model with the fitted link"),
    Column("ports_error_percent", "%", "`ports_ms` above `took_ms`"),
    Column("message_error_percent", "%", "how far a message's end by the port model is from the executed one, mean over"
           " messages, of the time of the exchange", REPEATED),
    Column("worst_error_percent", "%", "largest absolute `ports_error_percent`"),
    Column("spread_percent", "%", "from the shortest to the longest repetition of an exchange, of its median; median "
           "over exchanges"),
    Column("port_latency_us", "us", "fitted: time of a message beside its bytes"),
    Column("port_megabytes_per_s", "MB/s", "fitted: bandwidth of a device's port, each way"),
    Column("inside_us", "us", "time of a message inside a node beside its bytes", title="inside us"),
    Column("network_gigabytes_per_s", "GB/s", "bandwidth of a network port, each way", title="network GB/s"),
    Column("network_us", "us", "time of a message between nodes beside its bytes", title="network us"),
)  # fmt: skip
