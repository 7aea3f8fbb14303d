"""What a service did for every request: a row each, for any number of arrival rates and seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.serving.composition import Demand, Engine, Part
from moe_replay.simulate.serving.serving_system import System, new_service
from moe_replay.traces.selections import Trace


@dataclass(frozen=True, eq=False)
class Served:
    """What came of one run: rows of all requests, the parts of every step, when the last one ended, ns.

    `order_G` is the index into `sequences_S` of every request, `arrival_ns_G` when it arrived.
    """

    rows: list[dict]
    parts: list[list[Part]]
    end_ns: int
    order_G: np.ndarray
    arrival_ns_G: np.ndarray


def serve(
    trace: Trace, engine: Engine, demand: Demand, system: System, cost: Cost,
    advance: Callable[[int], object] = lambda rows: None,
) -> Served:  # fmt: skip
    """Return what came of a trace's sequences under a demand; errors and `cost` as in `new_service`.

    Times are ns from 0. A request's first token is there when its prompt is computed; every further row is another.
    `advance(rows)` is called after every step.
    """
    service, order_G, arrival_ns_G = new_service(trace, engine, demand, system, cost)
    end_ns = service.run(advance)
    sent = service.transfer.sent_bytes_G if service.transfer is not None else {}
    rate_per_s = demand.rate_of(arrival_ns_G)
    rows = [
        {
            "rate_per_s": "" if rate_per_s is None else rate_per_s,
            "speed": demand.speed if demand.arrivals == "recorded" else "",
            "seed": "" if demand.seed is None else demand.seed, "request": number,
            "source_sequence": int(trace.sequences_S[order_G[number]]), "prompt_tokens": each.prompt,
            "output_tokens": len(each.rows) - each.prompt + (each.prompt > 0),
            "arrival_ns": int(arrival_ns_G[number]), "first_token_ns": int(service.first_ns_G[number]),
            "kv_bytes": sent.get(number, 0), "decode_pool_ns": int(service.joined_ns_G[number]),
            "end_ns": int(service.end_ns_G[number]),
        }
        for number, each in enumerate(service.sequences)
    ]  # fmt: skip
    return Served(rows, [step.parts for step in service.steps], end_ns, order_G, arrival_ns_G)
