"""What sets of logs are called in figures: `CIFAR-10, 2-core CPU`, not the folder `cpu-amd-epyc/cifar10`."""

import re

DEVICES = {"cpu-amd-epyc": "2-core CPU", "nvidia-h200": "H200 GPU"}
DATA = {
    "cifar10": "CIFAR-10", "fashion-mnist": "Fashion-MNIST", "digits": "digits", "text": "text",
    "gpt-oss-20b": "gpt-oss-20b", "shapes": "published layers", "training-steps": "training steps",
    "cluster": "clusters of processes",
}  # fmt: skip
KNOWN = re.compile(rf"\b({'|'.join(DEVICES)})/([\w.-]*\w)")


def readable(text: str) -> str:
    """Return a text in which every DEVICE/DATA of a shipped device is named as a reader knows it.

    A user's own devices keep their names: nothing here knows what they are.
    """
    return KNOWN.sub(lambda found: f"{DATA.get(found[2], found[2])}, {DEVICES[found[1]]}", text)
