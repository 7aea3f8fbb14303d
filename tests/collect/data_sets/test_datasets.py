"""Data sets: what is read is what was written, and what does not fit is refused with its place."""

import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from moe_replay.collect.datasets import load_images
from moe_replay.collect.datasets.cifar_parquet import FILES as CIFAR_FILES
from moe_replay.collect.datasets.fashion_mnist import FILES as IDX_FILES
from moe_replay.collect.datasets.fashion_mnist import read_idx
from moe_replay.collect.datasets.images import Images
from moe_replay.traces.errors import InputError


def png(pixels_HWC):
    stream = io.BytesIO()
    Image.fromarray(pixels_HWC).save(stream, "PNG")
    return stream.getvalue()


def write_cifar(folder, images_NHWC, labels):
    column = pa.array([{"bytes": png(image), "path": ""} for image in images_NHWC])
    for file in CIFAR_FILES:
        pq.write_table(pa.table({"img": column, "label": pa.array(labels, pa.int64())}), folder / file)


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_cifar10_reads_pixels_channel_by_channel(tmp_path):
    images_NHWC = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    write_cifar(tmp_path, images_NHWC, [3, 1, 0, 9])
    images = load_images("cifar10", tmp_path)
    assert np.array_equal(images.train_NF.reshape(4, 3, 32, 32), images_NHWC.transpose(0, 3, 1, 2))
    assert images.test_label_N.tolist() == [3, 1, 0, 9]
    assert images.note == ""  # PNG is lossless: nothing to warn of


def test_cifar10_names_what_is_wrong(tmp_path, monkeypatch):
    write_cifar(tmp_path, np.zeros((2, 16, 16, 3), np.uint8), [0, 1])
    with pytest.raises(InputError, match=r"row 0: image is 16x16, allowed 32x32"):
        load_images("cifar10", tmp_path)
    (tmp_path / CIFAR_FILES[0]).write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match="not in the layout"):
        load_images("cifar10", tmp_path)
    (tmp_path / CIFAR_FILES[0]).unlink()
    with pytest.raises(InputError, match=f"{CIFAR_FILES[0]} is missing"):
        load_images("cifar10", tmp_path)


def test_neither_data_nor_network_is_told_in_one_line_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("MOE_REPLAY_DATA", raising=False)
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda *_, **__: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(InputError, match=r"--data-dir.*--data digits") as caught:
        load_images("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


def test_environment_variable_names_the_folder(tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    write_cifar(tmp_path / "cifar10", np.zeros((2, 32, 32, 3), np.uint8), [0, 1])
    monkeypatch.setenv("MOE_REPLAY_DATA", str(tmp_path))
    assert load_images("cifar10").train_NF.shape == (2, 3072)


def test_fashion_mnist_reads_idx_and_refuses_damage(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    for file in IDX_FILES:
        write_idx(tmp_path / file, images if "images" in file else np.arange(5, dtype=np.uint8))
    loaded = load_images("fashion-mnist", tmp_path)
    assert np.array_equal(loaded.test_NF, images.reshape(5, -1))
    whole = (tmp_path / IDX_FILES[0]).read_bytes()
    (tmp_path / IDX_FILES[0]).write_bytes(whole[:-20])
    with pytest.raises(InputError, match="not a whole gzip file"):
        load_images("fashion-mnist", tmp_path)
    (tmp_path / IDX_FILES[0]).write_bytes(gzip.compress(b"\0\0\x0d\3" + b"\0" * 20))
    with pytest.raises(InputError, match="allowed 000008"):
        read_idx(tmp_path / IDX_FILES[0])
    write_idx(tmp_path / "short.gz", images)
    content = gzip.decompress((tmp_path / "short.gz").read_bytes())
    (tmp_path / "short.gz").write_bytes(gzip.compress(content[:-1]))
    with pytest.raises(InputError, match="its header"):
        read_idx(tmp_path / "short.gz")


def test_digits_need_no_download():
    images = load_images("digits")
    assert images.train_NF.shape == (1437, 64)
    assert images.train_NF.max() == 240
    assert len(images.test_label_N) == 360


def test_unknown_data_set_lists_the_known():
    with pytest.raises(InputError, match="known: cifar10, cifar100, digits, fashion-mnist"):
        load_images("cifar")


def test_labels_and_sizes_must_fit():
    zeros = np.zeros((2, 4), np.uint8)
    labels = np.array([0, 1])
    with pytest.raises(InputError, match=r"label 1, allowed 0\.\.0"):
        Images("x", (1, 2, 2), 1, zeros, labels, zeros, labels, False, "")
    with pytest.raises(InputError, match="2 labels"):
        Images("x", (1, 2, 3), 2, zeros, labels, zeros, labels, False, "")


def test_mean_and_deviation_are_each_channels_own(blobs):
    mean_F, deviation_F = blobs.mean_and_deviation()
    channels = blobs.train_NF.reshape(-1, 3, 100).astype(float)
    np.testing.assert_allclose(mean_F.reshape(3, 100)[:, 0], channels.mean(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(deviation_F.reshape(3, 100)[:, 7], channels.std(axis=(0, 2)), rtol=1e-4)


def test_digest_tells_changed_images_apart(blobs):
    assert blobs.first(None, None).digest == blobs.digest
    assert blobs.first(100, None).digest != blobs.digest
    assert blobs.first(100, 50).note == "made by the test; only the first 100 training and 50 test images"
