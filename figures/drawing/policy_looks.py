"""What cache policies are called and look like in figures of misses: the same in every panel."""

from moe_replay.figures.drawing import style

POLICIES = ("lru", "fifo", "lfu", "sieve", "lifo")  # each keeps its look
OPTIMA = ("belady", "belady-bypass")
LABELS = {
    "lifo": "LIFO (Huang et al.)", "belady": "optimum (Belady), in hindsight",
    "belady-bypass": "optimum that may decline, in hindsight",
}  # fmt: skip


def look(policy: str) -> dict:
    """Return the look of a policy's line."""
    if policy == "belady":
        return {"color": style.DARK, "marker": "", **style.THEORY}
    if policy == "belady-bypass":
        return {"color": style.DARK, "marker": "", "linestyle": "--", "linewidth": 1}
    return style.look(POLICIES.index(policy))


def label(policy: str) -> str:
    """Return the name of a policy."""
    return LABELS.get(policy, policy.upper())
