"""The sentence that answers what queue size B buys and what it costs, from the queue-size table."""

import numpy as np
import pandas as pd

from moe_replay.analysis.tables.queue_size.rows import fully_used_from, plain_points, saturated

TYPICAL_LOAD = 0.6  # the sentence speaks of the load next to this one; the numbers hold all of them


def queue_size_claim(table: pd.DataFrame, steps: pd.DataFrame) -> dict:
    """Return the claim and the numbers of the queue-size figure, over every set with saturated points."""
    answers = {name: set_answer(table, steps, name) for name in dict.fromkeys(table["set"])}
    answers = {name: answer for name, answer in answers.items() if answer}
    if not answers:
        return {
            "claim": "No closed-loop run could be read, so nothing can be said about the queue size.",
            "numbers": {},
        }
    return {
        "claim": " ".join(answer["sentence"] for answer in answers.values()),
        "numbers": {name: answer["numbers"] for name, answer in answers.items()},
    }


def best_source(table: pd.DataFrame, name: str) -> str | None:
    """Return the source that the answer rests on: executed before simulated before theory."""
    for source in ("executed", "simulated", "theory"):
        if not saturated(table, name, source).empty:
            return source
    return None


def set_answer(table: pd.DataFrame, steps: pd.DataFrame, name: str) -> dict | None:
    """Return sentence and numbers of one set; None where no saturated throughput is known."""
    source = best_source(table, name)
    if source is None:
        return None
    points = saturated(table, name, source)
    rate = points.set_index("queue_size")["throughput_per_s"]
    enough, first, last = int(fully_used_from(points)), int(rate.index.min()), int(rate.index.max())
    forced = points["forced_batches"].iloc[-1]
    cost = latency_cost(steps, name, source, enough)
    numbers = {
        "source": source, "in_flight": float(points["in_flight"].iloc[0]), "fully_used_from_queue_size": enough,
        "still_growing": bool(enough == last > first), "gain_over_smallest": float(rate.max() / rate[first]),
        "throughput_per_s": {str(int(size)): round(float(value), 1) for size, value in rate.items()},
        "forced_batches_at_largest": float(forced), "latency": cost, "stable": stable_sizes(table, name, source),
    }  # fmt: skip
    head = f"{name} ({source}, N={numbers['in_flight']:.0f})"
    return {"sentence": f"{head}: {throughput_sentence(rate, enough)}; {latency_sentence(cost)}", "numbers": numbers}


def throughput_sentence(rate: pd.Series, enough: int) -> str:
    """Return from which B on the machine is fully used, in words; `rate` is passes/s by ascending queue size."""
    first, last = int(rate.index[0]), int(rate.index[-1])
    growth = f"{rate.max() / rate[first]:.1f} times as many as at B={first}"
    if enough == last and len(rate) > 1:
        step = (rate[last] / rate.iloc[-2] - 1) * 100
        return (
            f"no queue size up to B={last} uses the machine fully: the last step, from B={rate.index[-2]:.0f}, "
            f"still gains {step:.0f} % to {rate[last]:.0f} passes/s, {growth}"
        )
    return (
        f"the machine is fully used from B={enough} on, where it reaches {rate[enough]:.0f} of at most "
        f"{rate.max():.0f} passes/s, {growth}"
    )


def latency_cost(steps: pd.DataFrame, name: str, source: str, enough: int) -> dict:
    """Return, per load, what a doubling of B does to median latency and throughput, below and above full use."""
    cost = {}
    if steps.empty:
        return cost
    chosen = steps[(steps["set"] == name) & (steps["source"] == source)]
    for load, rows in chosen.groupby("load"):
        stable = rows[rows["status"] == "ok"]
        cost[f"{load:.2f}"] = {
            "below": doubling(stable[stable["to_queue_size"] <= enough]),
            "above": doubling(stable[stable["to_queue_size"] > enough]),
        }
    return cost


def doubling(rows: pd.DataFrame) -> dict | None:
    """Return geometric means per doubling of B over consecutive steps; None without steps."""
    if rows.empty:
        return None
    doublings = float(np.log2(rows["to_queue_size"] / rows["from_queue_size"]).sum())
    ratio = float(np.prod(rows["latency_p50_ratio"])) ** (1 / doublings)
    gain = float(np.prod(1 + rows["throughput_gain_percent"] / 100)) ** (1 / doublings)
    return {
        "from_queue_size": int(rows["from_queue_size"].iloc[0]), "to_queue_size": int(rows["to_queue_size"].iloc[-1]),
        "throughput_gain_percent_per_doubling": (gain - 1) * 100, "latency_p50_ratio_per_doubling": ratio,
        "latency_p50_from_ms": float(rows["latency_p50_from_ms"].iloc[0]),
        "latency_p50_to_ms": float(rows["latency_p50_to_ms"].iloc[-1]),
    }  # fmt: skip


def latency_sentence(cost: dict) -> str:
    """Return what a step of throughput costs in latency per pass, in words, at the load next to the typical one."""
    told = [load for load, parts in cost.items() if any(parts.values())]
    if not told:
        return "no stable points under Poisson arrivals tell what that costs in latency."
    load = min(told, key=lambda text: abs(float(text) - TYPICAL_LOAD))
    clauses = [clause(part) for part in cost[load].values() if part]
    return f"at load {load}, {', and '.join(clauses)}."


def clause(part: dict) -> str:
    """Return one clause: from which B to which, gained and paid per doubling."""
    return (
        f"from B={part['from_queue_size']} to {part['to_queue_size']} each doubling of B gains "
        f"{part['throughput_gain_percent_per_doubling']:.1f} % throughput and costs a factor of "
        f"{part['latency_p50_ratio_per_doubling']:.2f} in median latency per pass "
        f"({part['latency_p50_from_ms']:.3g} ms to {part['latency_p50_to_ms']:.3g} ms)"
    )


def stable_sizes(table: pd.DataFrame, name: str, source: str) -> dict[str, list[int]]:
    """Return the queue sizes that keep up, per load."""
    points = plain_points(table, name, source, "poisson")
    return {
        f"{load:.2f}": sorted(rows.loc[rows["status"] == "ok", "queue_size"].astype(int).tolist())
        for load, rows in points.groupby("load")
    }
