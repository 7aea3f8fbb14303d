"""CIFAR-10 in the Parquet layout of the Hugging Face data set `uoft-cs/cifar10`."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track

from collect.datasets.images import Images
from collect.datasets.location import find_folder
from traces.errors import InputError

REPOSITORY = "uoft-cs/cifar10"
FILES = ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")


def load_cifar10(data_dir: Path | None = None) -> Images:
    """Return all 60,000 images from a folder, or through the Hugging Face hub where there is a network."""
    folder = find_folder("cifar10", FILES, data_dir)
    paths = [folder / file for file in FILES] if folder else download()
    (train_NF, train_label_N, train_kind), (test_NF, test_label_N, _) = (read_split(path) for path in paths)
    note = f"images are a {train_kind} re-encoding of CIFAR-10" if train_kind != "PNG" else ""
    return Images("cifar10", (3, 32, 32), 10, train_NF, train_label_N, test_NF, test_label_N, True, note)


def download() -> list[Path]:
    """Return the two files from the Hugging Face hub; InputError says how to get them without it."""
    from huggingface_hub import hf_hub_download

    try:
        return [
            Path(hf_hub_download(REPOSITORY, f"plain_text/{file}", repo_type="dataset", etag_timeout=5))
            for file in FILES
        ]
    except Exception as error:  # the hub's client raises errors of many libraries; all mean: not to be had
        raise InputError(
            f"cifar10: not in --data-dir, not in MOE_REPLAY_DATA, and the Hugging Face hub did not answer "
            f"({type(error).__name__}); put {FILES[0]} and {FILES[1]} of {REPOSITORY} into a folder and name it with "
            f"--data-dir, or use --data digits, which needs no download"
        ) from None


def read_split(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Return (images [N, 3072] uint8 channel by channel, labels int64, the images' encoding) of one Parquet file."""
    from PIL import Image, UnidentifiedImageError

    try:
        table = pq.read_table(path)
        encoded = table["img"].combine_chunks().field("bytes").to_pylist()
        label_N = table["label"].to_numpy().astype(np.int64)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(f"{path}: not in the layout of {REPOSITORY} ({str(error)[:80]})") from None
    images_NF = np.empty((len(encoded), 3072), dtype=np.uint8)
    kind = ""
    for row, content in enumerate(track(encoded, f"decoding {path.name}", transient=True)):
        try:
            image = Image.open(io.BytesIO(content))
            pixels = np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(f"{path}: row {row}: not an image ({error})") from None
        if pixels.shape != (32, 32, 3):
            raise InputError(f"{path}: row {row}: image is {pixels.shape[1]}x{pixels.shape[0]}, allowed 32x32")
        images_NF[row] = pixels.transpose(2, 0, 1).reshape(-1)
        kind = image.format
    return images_NF, label_N, kind
