"""CIFAR-100's layout: fine labels of a hundred classes; the folder of the other CIFAR is refused by its columns."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from moe_replay.collect.datasets import load_images
from moe_replay.collect.datasets.cifar_parquet import FILES
from moe_replay.traces.errors import InputError


def png(pixels_HWC):
    stream = io.BytesIO()
    Image.fromarray(pixels_HWC).save(stream, "PNG")
    return stream.getvalue()


def write(folder, labels, images_NHWC=None):
    count = len(next(iter(labels.values())))
    pixels = np.zeros((count, 32, 32, 3), np.uint8) if images_NHWC is None else images_NHWC
    columns = {"img": pa.array([{"bytes": png(image), "path": None} for image in pixels])}
    columns |= {name: pa.array(values, pa.int64()) for name, values in labels.items()}
    for file in FILES:
        pq.write_table(pa.table(columns), folder / file)


def test_cifar100_reads_fine_labels_and_pixels(tmp_path):
    images_NHWC = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    write(tmp_path, {"fine_label": [99, 0, 41], "coarse_label": [19, 0, 7]}, images_NHWC)
    images = load_images("cifar100", tmp_path)
    assert images.classes == 100
    assert images.mirrored
    assert images.train_label_N.tolist() == [99, 0, 41]
    assert np.array_equal(images.test_NF.reshape(3, 3, 32, 32), images_NHWC.transpose(0, 3, 1, 2))


def test_a_label_beyond_the_classes_is_refused(tmp_path):
    write(tmp_path, {"fine_label": [100], "coarse_label": [0]})
    with pytest.raises(InputError, match=r"label 100, allowed 0\.\.99"):
        load_images("cifar100", tmp_path)


@pytest.mark.parametrize(
    ("asked", "labels", "missing"),
    [
        ("cifar100", {"label": [1]}, "column fine_label is missing, found img, label"),
        ("cifar10", {"fine_label": [1], "coarse_label": [1]}, "column label is missing, found img, fine_label"),
    ],
)
def test_the_other_cifar_is_refused_by_its_columns(tmp_path, asked, labels, missing):
    write(tmp_path, labels)
    with pytest.raises(InputError, match=missing) as caught:
        load_images(asked, tmp_path)
    assert "\n" not in str(caught.value)


def test_half_a_folder_names_the_missing_file(tmp_path):
    write(tmp_path, {"fine_label": [1], "coarse_label": [1]})
    (tmp_path / FILES[1]).unlink()
    with pytest.raises(InputError, match=f"{FILES[1]} is missing; cifar100 needs"):
        load_images("cifar100", tmp_path)
