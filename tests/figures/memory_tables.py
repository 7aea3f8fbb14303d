"""Tables of the figure gating_memory in small, in the form that `python -m analysis` writes them."""

BATCHES = (100, 400)


def layer_rows(name):
    for like, convention, waste in (("lm", "CS", 12.8), ("mt", "CS", 64.0), ("", "CS/E", 0.6), ("", "CSk/E", 1.2)):
        for batch in BATCHES:
            row = {"set": name, "like": like, "convention": convention, "batch": batch, "status": "ok", "reason": "",
                   "waste_predicted": waste, "waste_measured": waste * 1.01}  # fmt: skip
            for dispatch, share in (("static", 10), ("gathered", 2), ("dynamic", 1)):
                row[f"{dispatch}_peak_bytes"] = share * batch * waste * 1e4
                row[f"{dispatch}_median_ms"] = share * batch / 10
                row[f"{dispatch}_lower_quartile_ms"] = share * batch / 11
                row[f"{dispatch}_upper_quartile_ms"] = share * batch / 9
            yield row


def expert_rows(name):
    for view, dropped in (("as the language model: E=512", 20.0), ("trained toy gate: E=16", 0.0)):
        for batch in BATCHES:
            for dispatch, which, share in (
                ("static", "every expert", 8), ("dynamic", "mean expert", 1), ("dynamic", "busiest expert", 4)
            ):  # fmt: skip
                yield {"set": name, "view": view, "batch": batch, "dispatch": dispatch, "which": which,
                       "current_kib": share * batch / 8, "peak_kib": share * batch / 2,
                       "dropped_percent": dropped}  # fmt: skip


def memory_tables(sets):
    """Return both tables for some sets."""
    kinds = {"gating_memory": layer_rows, "gating_memory_experts": expert_rows}
    return {table: [row for name in sets for row in rows(name)] for table, rows in kinds.items()}
