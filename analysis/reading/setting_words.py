"""How a configuration reads in a table: its arrivals, its setting, and in what it departs from the plain queue."""


def describe_config(config: dict, used_k: int | None) -> dict:
    """Return the columns that identify a configuration (a RunConfig as a dictionary) in every table.

    `arrivals` is closed, poisson, all or steps; `setting` is the text that tells rows with the same apart;
    `departures` is empty for plain queues of one size on one device at the model's own k (`used_k`, None where no trace
    says it), and names every departure otherwise.
    """
    lockstep = config["scheduler"] == "lockstep"
    return {
        "scheduler": config["scheduler"],
        "arrivals": config["arrivals"],
        "setting": setting(config),
        **{name: config[name] for name in ("in_flight", "load", "rate_per_s")},  # None where they mean nothing
        "queue_size": None if lockstep else config["queue_size"],
        "max_step": config["max_step"],
        "departures": departures(config, used_k),
        "sequences": config["sequences"],
    }


def setting(config: dict) -> str:
    """Return `N=512`, `load 0.60`, `900 per s`, `all at once`, `recorded x2` or `steps`."""
    if config["arrivals"] == "closed":
        return f"N={config['in_flight']}"
    if config["arrivals"] == "poisson":
        return f"{config['rate_per_s']:g} per s" if config["load"] is None else f"load {config['load']:.2f}"
    speed = f" x{config['speed']:g}" if config.get("speed", 1) != 1 else ""
    return "all at once" if config["arrivals"] == "all" else config["arrivals"] + speed


def departures(config: dict, used_k: int | None) -> str:
    """Return the departures from the plain configuration, with commas; empty for none."""
    parts = []
    if config["dense_queue_size"] not in (None, config["queue_size"]):
        parts.append(f"dense B={config['dense_queue_size']}")
    if config["timeout_ns"] is not None:
        parts.append(f"time-out {config['timeout_ns'] / 1e6:g} ms")
    if config["k"] not in (None, used_k):
        parts.append(f"k={config['k']}")
    if not config["dense"]:
        parts.append("no dense part")
    if config["devices"] > 1:
        parts.append(f"{config['devices']} devices, {config['placement']}")
    if config.get("cluster"):
        parts.append("{links}, {nodes} nodes, M={micro_batches} {mode} {split}".format(**config["cluster"]))
        if shared := config["cluster"].get("shared_experts"):
            parts.append(f"{shared} shared experts beside")
    if config.get("memory"):
        parts.append("{cache} C={slots} {miss}".format(**config["memory"]))
    return ", ".join(parts)


def trace_words(set_name: str, trace: str) -> str:
    """Return what a trace is called among those of several sets; one that was given by itself is its own set."""
    return trace if set_name == trace else f"{set_name} {trace}"
