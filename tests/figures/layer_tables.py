"""Tables of the figures layer_costs and links in small, in the form that `python -m analysis` writes them."""

FINE = {"status": "ok", "reason": ""}


def layer_tables(sets):
    return {"layer_costs": list(layer_rows(sets)), "links": list(link_rows(sets))}


def layer_rows(sets):
    """The first set is a CPU's: it has no events and no grouped products."""
    for name in sets:
        forms = {"loop": 9, "wall": 5, "looped": 4} | ({} if name == sets[0] else {"event": 3, "grouped": 1})
        for shape, scale in (("large", 10), ("small", 1)):
            for form, fixed in forms.items():
                for tokens in (1, 16, 256):
                    took = scale * (fixed + tokens / 16)
                    yield {"set": name, "shape": shape, "form": form, "tokens": tokens, "expert_us": took,
                           "lower_quartile_us": took * 0.9, "upper_quartile_us": took * 1.2, "token_us": took / tokens,
                           "teraflops": 1.0, "weights_gigabytes_per_s": 2.0, "break_even_tokens": 16.0 * fixed,
                           "break_even_token_us": scale / 8, **FINE}  # fmt: skip


def link_rows(sets):
    for name in sets:
        for memory, copies in (("pinned", 1), ("pinned", 4), ("pageable", 1)):
            for size in (1000, 1_000_000):
                took = 10 + copies * size / 1e4
                yield {"set": name, "host_memory": memory, "copies": copies, "copy_bytes": size, "copy_us": took,
                       "lower_quartile_us": took, "upper_quartile_us": took * 2, "fitted_us": took, "latency_us": 10,
                       "gigabytes_per_s": 10, **FINE}  # fmt: skip
