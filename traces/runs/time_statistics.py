"""Times as statistics: of passes, of whole requests, to their first token, and per token behind it.

`latency` is a pass's time from its arrival to its end. `request` is a sequence's, from its first arrival to its last
end. TTFT and TPOT are of sequences that decode; what their tokens are is said in `traces.runs.served_sequences`.
"""

from __future__ import annotations

import numpy as np

PERCENTILES = ("mean", "p50", "p95", "p99")
LATENCIES, REQUESTS, TTFT, TPOT = (
    tuple(f"{what}_{name}_ms" for name in PERCENTILES) for what in ("latency", "request", "ttft", "tpot")
)
TOKEN_TIMES = (*TTFT, *TPOT)
TIMES = (*LATENCIES, *REQUESTS, *TOKEN_TIMES)  # what a run without a steady state has none of


def latency_statistics(latency_ns: np.ndarray, names: tuple[str, ...] = LATENCIES) -> dict[str, float]:
    """Return mean and percentiles in milliseconds under the names of PERCENTILES; NaN without any."""
    if len(latency_ns) == 0:
        return dict.fromkeys(names, float("nan"))
    p50, p95, p99 = np.percentile(latency_ns, (50, 95, 99))
    in_ms = np.array([latency_ns.mean(), p50, p95, p99]) / 1e6
    return dict(zip(names, in_ms.tolist(), strict=True))


def latencies_of_parts(latency_ns: np.ndarray, parts: int) -> dict[str, np.ndarray]:
    """Return `latency_statistics` of parts as `np.array_split` cuts them, each name's values in the parts' order.

    Parts of one length are taken together: numpy's percentiles take about as long for one part as for ten.
    """
    short, longer = divmod(len(latency_ns), parts)
    cut = longer * (short + 1)
    blocks = (latency_ns[:cut].reshape(longer, short + 1), latency_ns[cut:].reshape(parts - longer, short))
    rows = [(block.mean(axis=1), *np.percentile(block, (50, 95, 99), axis=1)) for block in blocks if block.size]
    return dict(zip(LATENCIES, np.concatenate([np.array(row) for row in rows], axis=1) / 1e6, strict=True))


def token_statistics(to_first_ns: np.ndarray, decoding_ns: np.ndarray, further: np.ndarray) -> dict[str, float]:
    """Return TTFT and TPOT of some sequences: their times to the first token, and those of `further` tokens behind it.

    A sequence without a further token has no TPOT.
    """
    several = further > 0
    return {
        **latency_statistics(to_first_ns, TTFT),
        **latency_statistics(decoding_ns[several] / further[several], TPOT),
    }
