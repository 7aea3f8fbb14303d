"""Fashion-MNIST as gzipped IDX files, the layout of its authors and of Debian's `dataset-fashion-mnist`."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.datasets.location import find_folder
from moe_replay.traces.errors import InputError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = (
    "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
)  # fmt: skip


def load_fashion_mnist(data_dir: Path | None = None) -> Images:
    """Return all 70,000 images from a folder or from where Debian's package puts them."""
    folder = find_folder("fashion-mnist", FILES, data_dir, known=(DEBIAN,))
    if folder is None:
        raise InputError(
            "fashion-mnist: not in --data-dir, not in MOE_REPLAY_DATA, and Debian's package dataset-fashion-mnist is "
            "not installed; do one of these, or use --data digits, which needs no download"
        )
    train_NF, train_label_N, test_NF, test_label_N = (read_idx(folder / file) for file in FILES)
    train_NF, test_NF = train_NF.reshape(len(train_NF), -1), test_NF.reshape(len(test_NF), -1)
    labels = train_label_N.astype(np.int64), test_label_N.astype(np.int64)
    return Images("fashion-mnist", (1, 28, 28), 10, train_NF, labels[0], test_NF, labels[1], True, "")


def read_idx(path: Path) -> np.ndarray:
    """Return the unsigned bytes of one gzipped IDX file, in the shape that its header states."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({error})") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise InputError(f"{path}: starts with {content[:4].hex()}, allowed 000008.. (IDX of unsigned bytes)")
    dimensions = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).astype(int)
    if len(content) != 4 + 4 * dimensions + np.prod(shape):
        raise InputError(f"{path}: holds {len(content)} bytes, its header {tuple(shape)} asks for another number")
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)
