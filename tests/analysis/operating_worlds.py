"""Operating points whose truth is known: every accuracy is a stated probability, K is drawn as stated."""

import numpy as np

from moe_replay.traces.operating_points import operating_points

LAYERS = 4
CURVE = (0.50, 0.52, 0.535, 0.545, 0.55, 0.552, 0.553, 0.553)  # at k = 1..8, of every model
DRAWN_K = {1.5: (1, 2), 2.0: (1, 3, 2, 2, 1, 3), 3.0: (2, 4)}  # in all layers; an even number of samples hits the mean
SEED_EFFECT = 0.004  # standard deviation of what a seed adds to all its accuracies


class World:
    """Collects points: answers of one seed share an easiness per sample, so that differences are paired as in life."""

    def __init__(self, samples, seeds, generator, own_noise=0.1):
        self.samples, self.seeds, self.generator, self.own_noise = samples, seeds, generator, own_noise
        common_N = generator.random(samples)
        alone_SN = generator.random((seeds, samples)) < 0.3
        self.easy_SN = np.where(alone_SN, generator.random((seeds, samples)), common_N)
        self.effect_S = generator.normal(0, SEED_EFFECT, seeds)
        self.points, self.right, self.selections = [], [], []

    def add(self, seed, chance, selections_N, **point):
        """Add a point of one seed: right with a probability, plus the seed's own effect."""
        fresh_N = self.generator.random(self.samples) < self.own_noise
        hard_N = np.where(fresh_N, self.generator.random(self.samples), self.easy_SN[seed])
        self.right.append(hard_N < chance + self.effect_S[seed])
        self.selections.append(np.broadcast_to(selections_N, self.samples))
        self.points.append({"seed": seed, **point})

    def fixed(self, model, ks):
        for seed in range(self.seeds):
            for k in ks:
                self.add(seed, CURVE[k - 1], LAYERS * k, model=model, how="fixed", k=k)

    def dynamic(self, model, gain, rule="delta", how="rule", target=2.0, validated=None):
        """Add a rule whose accuracy is the curve's at its target (none: 2) plus a gain; K is drawn for it."""
        for seed in range(self.seeds):
            k_N = self.generator.permutation(np.resize(DRAWN_K[target or 2.0], self.samples))
            about = {"model": model, "rule": f"{rule}:{0.5 + seed / 100}:8"} | ({"target_k": target} if target else {})
            chance = np.interp(target or 2.0, np.arange(1, 1 + len(CURVE)), CURVE)
            seen = {"validation_accuracy": validated or chance + gain, "validation_mean_k": target or 2.0}
            self.add(seed, chance + gain, LAYERS * k_N, how=how, **about, **seen)
            if target in (None, 2.0):
                self.add(seed, CURVE[1], LAYERS * self.generator.permutation(k_N), how="shuffled", **about)

    def noisy(self, model, tries):
        for seed in range(self.seeds):
            for number in range(1, tries + 1):
                self.add(seed, np.mean(CURVE), LAYERS * 4, model=model, how="noisy", k=4, number=number)

    def whole(self):
        label_N = np.arange(self.samples) % 10
        header = {"points": self.points, "layers": LAYERS, "data": {"name": "toy"}}
        return operating_points(label_N, np.stack(self.right), np.stack(self.selections), header)


def study_world(samples, seeds, gain, generator):
    """The whole study in small: post hoc and trained delta gain as stated, another rule nothing."""
    world = World(samples, seeds, generator)
    for k in (1, 2, 3):
        world.fixed(f"fixed-{k}", [k])
    for model in ("fixed-4", "delta"):
        world.fixed(model, range(1, 9))
        world.dynamic(model, gain)
    world.dynamic("delta", gain, how="trained", target=None)
    world.dynamic("fixed-4", 0.0, rule="entropy")
    world.noisy("fixed-4", 8)
    return world.whole()
