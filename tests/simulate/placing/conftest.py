"""Worlds that tests of placing share."""

import numpy as np
import pytest

from moe_replay.simulate.placing.load_profile import LoadProfile


@pytest.fixture
def rng():
    return np.random.default_rng(18)


@pytest.fixture
def profile():
    """Return a function that makes a profile of tokens of two experts each, some of them popular."""

    def make(batches=6, layers=3, experts=8, tokens=40, seed=1):
        rng = np.random.default_rng(seed)
        noise_TLE = rng.gumbel(size=(batches * tokens, layers, experts)) - np.log(np.arange(1, experts + 1))
        experts_TLK = np.argsort(-noise_TLE, axis=2)[:, :, :2].astype(np.int16)
        load_BLE = np.stack([
            [np.bincount(part[:, layer].ravel(), minlength=experts) for layer in range(layers)]
            for part in np.split(experts_TLK, batches)
        ])  # fmt: skip
        return LoadProfile(load_BLE.astype(np.int64), experts_TLK)

    return make
