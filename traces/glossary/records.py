"""Columns of record tables (a row per pass, batch and transfer) and of cost tables."""

from moe_replay.traces.glossary.column import Column

COLUMNS = (
    Column("pass_id", "", "number of the pass, in the order of arrivals where that is known beforehand"),
    Column("sequence", "", "the trace's number of the sequence"),
    Column("step", "", "the trace's number of the step: one forward call of the engine that recorded it"),
    Column(
        "phase",
        "",
        "0: a token of a prompt is among the pass's, 1: all are decoded; of traces that decode; of "
        "placements over time, rows that count: all, prefill or decode",
    ),
    Column("arrival_ns", "ns", "when the pass arrived, since the run began"),
    Column("start_ns", "ns", "when the pass's first batch, the batch, the transfer, or the message began"),
    Column("end_ns", "ns", "when the pass's last batch, the batch, the transfer, or the message ended"),
    Column("device", "", "device that ran the batch"),
    Column("layer", "", "layer; `all`: all of them together; in records, the last index is what follows the layers"),
    Column("block", "", "0 the dense block, 1 + e expert e, -1 (costs) an expert's way over a link"),
    Column("size", "members", "members of the batch: selections of an expert, passes of a dense block"),
    Column("tokens", "tokens", "tokens of the row's pass, batch or trace; of a load or of reuse, those with a route"),
    Column("ready_ns", "ns", "when the batch's queue was ready"),
    Column("forced", "", "whether the stall rule forced the batch"),
    Column("hit", "", "1: the expert was in a slot, 0: it was not, -1: all experts were resident"),
    Column("members_crc", "", "checksum of the batch's members in queue order"),
    Column("expert", "", "number of the expert in its layer"),
    Column("slot", "", "slot that the expert went to"),
    Column("victim", "", "layer x E + expert that left the slot, -1: it was empty"),
    Column("asked_ns", "ns", "when the transfer was asked for"),
    Column("repetition", "", "number of the repetition of a measurement"),
    Column("service_ns", "ns", "how long the batch took"),
)
