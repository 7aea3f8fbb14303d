"""Searches for the configuration of least predicted loss within a memory and a latency budget.

`exact` uses that the models are sums over layers: dynamic programming over layers, with the slots and the experts run
so far as its state, gives the best plan of every pair of sums at once. `genetic` is the paper's: configurations drawn
at random, of which in every generation the best that keep the budgets survive, one entry is mutated, and pairs exchange
or average their entries. `uniform`, all layers alike, is the baseline of both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.planning.fitted_models import Models
from moe_replay.simulate.planning.measurements import NO_PERIOD
from moe_replay.traces.errors import InputError

POPULATION, GENERATIONS, MUTATED = 96, 150, 0.3


@dataclass(frozen=True)
class Budget:
    """At most so many bytes on the device, and ms for a pass in the mean (None: any)."""

    memory_bytes: float
    latency_ms: float | None = None


@dataclass(frozen=True)
class Plan:
    """Slots per layer and update period (0: residents stay), what the models predict, and how it was found."""

    slots_L: tuple[int, ...]
    period: int
    loss: float
    latency_ms: float
    memory_bytes: float
    search: str
    seconds: float


def check_feasible(models: Models, layers: int, budget: Budget) -> None:
    """Raise InputError where even one slot per layer breaks a budget: which one, and by how much."""
    least = np.ones(layers, int)
    reasons = []
    memory = models.memory_bytes(least)
    latency = min(models.latency_ms(least, period) for period in models.periods)
    if memory > budget.memory_bytes:
        reasons.append(
            f"memory: {budget.memory_bytes:.0f} bytes, the smallest plan needs {memory:.0f}, "
            f"{memory - budget.memory_bytes:.0f} more"
        )
    if budget.latency_ms is not None and latency > budget.latency_ms:
        reasons.append(
            f"latency: {budget.latency_ms:g} ms, the fastest plan needs {latency:.3f} ms, "
            f"{latency - budget.latency_ms:.3f} more"
        )
    if reasons:
        raise InputError(f"no plan meets the budget: {'; '.join(reasons)}")


def most_slots(models: Models, layers: int, budget: Budget) -> int:
    """Return how many slots all layers may have together."""
    if models.memory[1] <= 0:
        return layers * models.experts
    return min(layers * models.experts, int((budget.memory_bytes - models.memory[0]) / models.memory[1] + 1e-9))


def exact(models: Models, layers: int, budget: Budget) -> Plan:
    """Return the best plan of the fitted models; InputError where none meets the budget."""
    check_feasible(models, layers, budget)
    begun = time.perf_counter()
    pain_SR, choice_LSR = least_pain(models, layers, most_slots(models, layers, budget))
    candidates = []
    for period in models.periods:
        ran = most_run(models, layers, budget, period)
        if ran < layers:
            continue
        slots, run = np.unravel_index(pain_SR[:, : ran + 1].argmin(), pain_SR[:, : ran + 1].shape)
        slots_L = walk_back(choice_LSR, models.k, int(slots), int(run))
        candidates.append((models.loss(slots_L, period), period, slots_L))
    _, period, slots_L = min(candidates, key=lambda each: each[:2])
    return described(models, slots_L, period, "exact", time.perf_counter() - begun)


def most_run(models: Models, layers: int, budget: Budget, period: int) -> int:
    """Return how many experts a pass may run, summed over layers, within the latency budget."""
    most = layers * models.k
    if budget.latency_ms is None:
        return most
    left = budget.latency_ms - models.latency_ms(np.zeros(layers), period)
    if models.latency[1] <= 0:
        return most if left >= 0 else -1
    return min(most, int(np.floor(left / models.latency[1] + 1e-9)))


def least_pain(models: Models, layers: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (least pain by sums of slots and of experts run, the last layer's slots in it, layer by layer)."""
    experts, runs = models.experts, layers * models.k
    pain_LC, pain_SR = models.quality.pain_LC(), np.full((slots + 1, runs + 1), np.inf)
    pain_SR[0, 0] = 0.0
    choice_LSR = np.zeros((layers, slots + 1, runs + 1), np.int16)
    for layer in range(layers):
        after_SR = np.full_like(pain_SR, np.inf)
        for own in range(1, min(experts, slots) + 1):
            ran = min(own, models.k)
            moved = np.full_like(pain_SR, np.inf)
            moved[own:, ran:] = pain_SR[: slots + 1 - own, : runs + 1 - ran] + pain_LC[layer, own]
            better = moved < after_SR
            after_SR = np.where(better, moved, after_SR)
            choice_LSR[layer][better] = own
        pain_SR = after_SR
    return pain_SR, choice_LSR


def walk_back(choice_LSR: np.ndarray, k: int, slots: int, run: int) -> np.ndarray:
    """Return the slots per layer behind an entry of the table."""
    found = []
    for choice_SR in choice_LSR[::-1]:
        own = int(choice_SR[slots, run])
        found.append(own)
        slots, run = slots - own, run - min(own, k)
    return np.array(found[::-1])


def genetic(models: Models, layers: int, budget: Budget, seed: int = 0) -> Plan:
    """Return the best plan that the genetic search finds; InputError where none meets the budget."""
    check_feasible(models, layers, budget)
    begun, draws = time.perf_counter(), np.random.default_rng(seed)
    periods = models.periods
    genes = draws.integers(1, models.experts + 1, (POPULATION, layers))
    genes = np.column_stack([genes, draws.integers(len(periods), size=POPULATION)])
    genes[0] = [*[1] * layers, periods.index(NO_PERIOD) if NO_PERIOD in periods else len(periods) - 1]  # keeps budgets
    for _ in range(GENERATIONS):
        children = np.concatenate([crossed(genes, draws), mutated(genes, models.experts, len(periods), draws)])
        everyone = np.unique(np.concatenate([genes, children]), axis=0)
        worth = fitness(models, everyone, periods, budget)
        kept = worth.argsort(kind="stable")[:POPULATION]
        genes = everyone[kept][np.isfinite(worth[kept])]
    best = genes[0]
    return described(models, best[:-1], periods[best[-1]], "genetic", time.perf_counter() - begun)


def crossed(genes: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Return children of random pairs: entries exchanged, or averaged."""
    first, second = genes[draws.integers(len(genes), size=(2, POPULATION // 2))]
    exchanged = np.where(draws.random(first.shape) < 0.5, first, second)
    averaged = (first + second + draws.integers(2, size=first.shape)) // 2
    averaged[:, -1] = first[:, -1]  # a period has no mean
    return np.concatenate([exchanged, averaged])


def mutated(genes: np.ndarray, experts: int, periods: int, draws: np.random.Generator) -> np.ndarray:
    """Return copies in which one entry is drawn anew, or (slots) moved a little."""
    copies = genes[draws.integers(len(genes), size=POPULATION)].copy()
    rows, place = np.arange(len(copies)), draws.integers(copies.shape[1], size=len(copies))
    small = copies[rows, place] + draws.integers(-2, 3, size=len(copies))
    value = np.where(draws.random(len(copies)) < MUTATED, draws.integers(1, experts + 1, size=len(copies)), small)
    is_period = place == copies.shape[1] - 1
    copies[rows, place] = np.where(is_period, draws.integers(periods, size=len(copies)), value.clip(1, experts))
    return copies


def fitness(models: Models, genes: np.ndarray, periods: list[int], budget: Budget) -> np.ndarray:
    """Return the predicted loss of configurations, infinite where a budget is broken."""
    slots_NL, period_N = genes[:, :-1], np.array(periods)[genes[:, -1]]
    loss_N = models.quality.loss(slots_NL, period_N)
    for i, (slots_L, period) in enumerate(zip(slots_NL, period_N.tolist(), strict=True)):
        if not keeps(models, slots_L, period, budget):
            loss_N[i] = np.inf
    return loss_N


def keeps(models: Models, slots_L: np.ndarray, period: int, budget: Budget) -> bool:
    """Say whether a configuration is predicted to keep a budget."""
    if models.memory_bytes(slots_L) > budget.memory_bytes:
        return False
    return budget.latency_ms is None or models.latency_ms(slots_L, period) <= budget.latency_ms


def uniform(models: Models, layers: int, budget: Budget) -> Plan:
    """Return the best plan that gives all layers the same: what a search has to beat."""
    check_feasible(models, layers, budget)
    begun = time.perf_counter()
    kept = [
        (models.loss(slots_L, period), period, slots_L)
        for period in models.periods
        for slots_L in (np.full(layers, each) for each in range(1, models.experts + 1))
        if keeps(models, slots_L, period, budget)
    ]
    _, period, slots_L = min(kept, key=lambda each: each[:2])
    return described(models, slots_L, period, "uniform", time.perf_counter() - begun)


def described(models: Models, slots_L: np.ndarray, period: int, search: str, seconds: float) -> Plan:
    """Return a plan with what the models predict of it."""
    return Plan(
        tuple(int(each) for each in slots_L), int(period), models.loss(slots_L, period),
        models.latency_ms(slots_L, period), models.memory_bytes(slots_L), search, seconds,
    )  # fmt: skip


SEARCHES = {"exact": exact, "genetic": genetic, "uniform": uniform}


def search_all(models: Models, layers: int, budget: Budget) -> list[Plan]:
    """Return the plan of every search, the best first; InputError where no plan meets the budget."""
    plans = [search(models, layers, budget) for search in SEARCHES.values()]
    return sorted(plans, key=lambda plan: plan.loss)
