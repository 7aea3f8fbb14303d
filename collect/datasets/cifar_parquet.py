"""The Parquet layout in which the Hugging Face hub keeps CIFAR-10 and CIFAR-100: encoded images beside their labels."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.datasets.location import find_folder
from moe_replay.traces.errors import InputError

FILES = ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")


@dataclass(frozen=True)
class Layout:
    """One data set on the hub: its repository, the folder of its files there, and the column that holds the classes."""

    name: str
    title: str
    repository: str
    folder: str
    label: str
    classes: int


def load_cifar(layout: Layout, data_dir: Path | None) -> Images:
    """Return all 60,000 images from a folder, or through the Hugging Face hub where there is a network."""
    folder = find_folder(layout.name, FILES, data_dir)
    paths = [folder / file for file in FILES] if folder else download(layout)
    (train_NF, train_kind, train_label_N), (test_NF, _, test_label_N) = (read_split(path, layout) for path in paths)
    note = f"images are a {train_kind} re-encoding of {layout.title}" if train_kind != "PNG" else ""
    return Images(layout.name, (3, 32, 32), layout.classes, train_NF, train_label_N, test_NF, test_label_N, True, note)


def download(layout: Layout) -> list[Path]:
    """Return the two files from the Hugging Face hub; InputError says how to get them without it."""
    from huggingface_hub import hf_hub_download

    try:
        return [
            Path(hf_hub_download(layout.repository, f"{layout.folder}/{file}", repo_type="dataset", etag_timeout=5))
            for file in FILES
        ]
    except Exception as error:  # the hub's client raises errors of many libraries; all mean: not to be had
        raise InputError(
            f"{layout.name}: not in --data-dir, not in MOE_REPLAY_DATA, and the Hugging Face hub did not answer "
            f"({type(error).__name__}); put {FILES[0]} and {FILES[1]} of {layout.repository} into a folder and name it "
            f"with --data-dir, or use --data digits, which needs no download"
        ) from None


def read_split(path: Path, layout: Layout) -> tuple[np.ndarray, str, np.ndarray]:
    """Return (images [N, 3072] uint8 channel by channel, their encoding, labels int64) of one Parquet file."""
    try:
        table = pq.read_table(path)
        absent = [name for name in ("img", layout.label) if name not in table.column_names]
        if absent:
            raise InputError(
                f"{path}: column {absent[0]} is missing, found {', '.join(table.column_names)}; "
                f"{layout.name} needs img, {layout.label}"
            )
        encoded = table["img"].combine_chunks().field("bytes").to_pylist()
        label_N = table[layout.label].to_numpy().astype(np.int64)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(f"{path}: not in the layout of {layout.repository} ({str(error)[:80]})") from None
    return *decode(path, encoded), label_N


def decode(path: Path, encoded: list[bytes]) -> tuple[np.ndarray, str]:
    """Return (images [N, 3072] uint8, their encoding) from the bytes of image files; InputError names a bad row."""
    from PIL import Image, UnidentifiedImageError

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
    return images_NF, kind
