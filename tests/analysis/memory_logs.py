"""A log of the memory study with known answers, in the form that `collect dispatch-memory` writes it."""

import pandas as pd

ONE_ROW, OUTPUT = 64, 1000  # bytes of an expert's input and output row; of the layer's output
WIDTHS = {"width": 8, "hidden": 32, "weights_bytes": 4000, "input_bytes": 500}
CONFIGURATIONS = [
    # router, like, E, k, convention, C, S, slots, waste, dropped, static's peak, dynamic's peak
    ("zipf 1", "lm", 512, 2, "CS", 0.05, 100, 5, 12.8, 20, 50_000, 5_000),
    ("zipf 1", "mt", 128, 2, "CS", 1.0, 100, 100, 64.0, 0, 400_000, 8_000),
    ("zipf 1", "mt", 128, 2, "CS", 1.0, 200, 200, 64.0, 0, 1_600_000, 16_000),
    ("zipf 1", "", 16, 4, "CS/E", 1.25, 100, 8, 0.3125, 280, 6_000, 7_500),
    ("trained toy", "", 16, 2, "CSk/E", 1.2, 100, 15, 1.2, 10, 20_000, 4_000),
    ("trained toy", "", 16, 4, "CSk/E", 1.2, 100, 30, 1.2, 0, 40_000, 5_000),
]


def measured(rows, busiest, experts, peak, ms):
    mean = rows / experts
    return {
        "rows": rows, "current_bytes": OUTPUT, "peak_bytes": peak, "predicted_peak_bytes": peak,
        "expert_rows_mean": mean, "expert_rows_max": busiest,
        "expert_current_bytes_mean": mean * ONE_ROW, "expert_current_bytes_max": busiest * ONE_ROW,
        "expert_peak_bytes_mean": 3 * mean * ONE_ROW, "expert_peak_bytes_max": 3 * busiest * ONE_ROW,
        "repetitions": 3, "median_ms": ms, "lower_quartile_ms": ms * 0.9, "upper_quartile_ms": ms * 1.1,
        "status": "ok", "reason": "",
    }  # fmt: skip


def memory_log():
    """Return the table: static dispatch of every configuration, the other two once per batch."""
    rows = []
    for router, like, experts, k, convention, factor, batch, slots, waste, dropped, peak, other in CONFIGURATIONS:
        sizes = {"router": router, "like": like, "experts": experts, "k": k, "batch": batch, **WIDTHS}
        sizes |= {"choices": batch * k}
        capacity = {"convention": convention, "capacity_factor": factor, "slots": slots}
        static = measured(experts * slots, slots, experts, peak, 40.0)
        rows.append({**sizes, **capacity, "dispatch": "static", "dropped": dropped, "waste_predicted": waste, **static})
        for name, bytes_, ms in (("dynamic", other, 10.0), ("gathered", 2 * other, 8.0)):
            found = measured(batch * k, batch // 2, experts, bytes_, ms)
            rows.append({**sizes, "convention": "", "dispatch": name, "dropped": 0, "waste_predicted": 1.0, **found})
    return pd.DataFrame(rows)


def write_memory_log(folder):
    """Write the log into a set's folder."""
    memory_log().to_csv(folder / "memory.csv", index=False)
