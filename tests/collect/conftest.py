"""Everything here needs torch; without it the folder is skipped, with that reason."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="collectors need torch: pip install -e '.[collect]'")
torch.set_num_threads(1)


@pytest.fixture
def cuda():
    """A CUDA device that is a stand-in; yields what its allocator knows."""
    from cuda_stand_in import stand_in_for_cuda

    with stand_in_for_cuda() as memory:
        yield memory


@pytest.fixture(scope="session")
def blobs():
    """A tiny image set whose ten classes are separable: class c is bright in its own rows. 600 train, 150 test."""
    from moe_replay.collect.datasets.images import Images

    draws = np.random.default_rng(7)

    def split(count):
        label_N = draws.integers(10, size=count)
        images_NF = draws.integers(0, 120, size=(count, 3, 10, 10))
        images_NF[np.arange(count), :, label_N] += 100
        return images_NF.reshape(count, -1).astype(np.uint8), label_N

    return Images("blobs", (3, 10, 10), 10, *split(600), *split(150), False, "made by the test")


@pytest.fixture(scope="session")
def small_config():
    from moe_replay.collect.models.classifier import ClassifierConfig

    return ClassifierConfig(layers=2, experts=6, k=2, width=24, hidden=16)


@pytest.fixture(scope="session")
def trained(blobs, small_config, tmp_path_factory):
    """(model, description, trace) of a small classifier trained on the blobs, and its trace of the test images."""
    from moe_replay.collect.recording.classifier_recording import record_trace
    from moe_replay.collect.training.classifier_training import TrainingConfig, restore, train

    folder = tmp_path_factory.mktemp("trained")
    cpu = torch.device("cpu")
    train(blobs, small_config, TrainingConfig(epochs=4, batch=32), cpu, folder / "m.pt")
    model, description = restore(folder / "m.pt", blobs)
    return model, description, record_trace(model, description, blobs, 2, 64, cpu, folder / "m.trace.parquet")
