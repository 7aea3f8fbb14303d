"""Tables of the locality figure in the form that analysis writes them."""

import itertools

LAYERS, EXPERTS, BINS = 3, 8, 4
DOMAINS = ("code", "novels")


def locality_tables(name):
    """A trace with two domains and a clip."""
    return {
        "locality": list(reuse_rows(name)), "locality_hits": list(hit_rows(name)),
        "locality_heat": list(heat_rows(name)), "locality_drift": list(drift_rows(name)),
    }  # fmt: skip


def reuse_rows(name):
    for trace, domains in (("language-decode", ("all", *DOMAINS)), ("vtest", ("all",))):
        for domain, layer in itertools.product(domains, ("all", *range(LAYERS))):
            yield {
                "set": name, "trace": trace, "status": "ok", "reason": "", "domain": domain, "layer": layer,
                "tokens": 1000, "reuse": 0.5, "reuse_shuffled": 0.3,
            }  # fmt: skip


def hit_rows(name):
    for trace, order, slots in itertools.product(
        ("language-decode", "vtest"), ("recorded", "shuffled"), range(1, EXPERTS + 1)
    ):
        yield {"set": name, "trace": trace, "order": order, "slots": slots, "hit_ratio": slots / (EXPERTS + 1)}


def heat_rows(name):
    for layer, order, domain, at, expert in itertools.product(
        range(LAYERS), ("recorded", "shuffled"), DOMAINS, range(BINS), range(EXPERTS)
    ):
        yield {
            "set": name, "trace": "language-decode", "layer": layer, "order": order, "domain": domain, "bin": at,
            "expert": expert, "place": expert, "share": 1 / EXPERTS,
        }  # fmt: skip


def drift_rows(name):
    for layer in ("all", *range(LAYERS)):
        yield {
            "set": name, "trace": "language-decode", "sequences": 9, "domains": 2, "layer": layer,
            "divergence_bits": 0.2, "permuted_mean": 0.1, "permuted_95": 0.15, "p": 0.001,
        }  # fmt: skip
