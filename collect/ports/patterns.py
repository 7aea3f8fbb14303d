"""How the bytes of an exchange are shared out: from the same for everybody to all for one device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moe_replay.traces.runs.port_log import CALIBRATION, CHECK

LONE = (0.1, 0.3, 0.7, 1.5, 3, 5)  # sizes of lone messages, in the mean message of a balanced exchange
TOWARD = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # share of the bytes that goes to the hot device alone
DRAWS = {CALIBRATION: 5, CHECK: 4}


def patterns_of(purpose: str, devices: int, message_bytes: int, seed: int) -> dict[str, np.ndarray]:
    """Return {name: bytes_DD int64} of the exchanges that a link is fitted to, or of those that the fit is checked on.

    None of the one is among the others: lone messages and draws here, shares between balanced and all-to-one, other
    draws and uneven receivers there. But for draws, half and double sizes all checked ones move the same bytes,
    D (D - 1) messages of `message_bytes`.
    """
    rng = np.random.default_rng((seed, devices, purpose == CHECK))
    made = calibration(devices, rng) if purpose == CALIBRATION else checked(devices, rng)
    return {name: whole_bytes(share_DD, message_bytes) for name, share_DD in made}


def whole_bytes(share_DD: np.ndarray, message_bytes: int) -> np.ndarray:
    """Return bytes from shares of the mean message: whole ones, and none from a device to itself."""
    return np.rint(share_DD * message_bytes * (1 - np.eye(len(share_DD)))).astype(np.int64)


def calibration(devices: int, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Yield lone messages, which tell latency and bandwidth apart, and draws, in which all send at once."""
    for size in LONE:
        share_DD = np.zeros((devices, devices))
        share_DD[0, 1] = size
        yield f"lone-{size:g}", share_DD
    for number in range(DRAWS[CALIBRATION]):
        yield f"calibration-draw-{number}", rng.uniform(0.05, 1.95, (devices, devices))


def checked(devices: int, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what the fit is checked on, balanced exchanges first."""
    others_DD = 1 - np.eye(devices)
    one_DD = np.zeros((devices, devices))
    one_DD[:, 0] = devices  # D - 1 senders share D (D - 1) messages
    for share in TOWARD:
        yield named_share("to-one", share), (1 - share) * others_DD + share * one_DD
    for share in (0.5, 1.0):
        yield named_share("from-one", share), (1 - share) * others_DD + share * one_DD.T
    yield "balanced-half", others_DD / 2
    yield "balanced-double", others_DD * 2
    for number in range(DRAWS[CHECK]):
        yield f"draw-{number}", rng.uniform(0.05, 1.95, (devices, devices))
    rank_D = rng.permutation(np.arange(1, devices + 1))
    for number, popular_D in enumerate((1 / rank_D, 1 / rank_D[::-1])):
        share_DD = others_DD * popular_D
        yield f"uneven-receivers-{number}", share_DD * devices * (devices - 1) / share_DD.sum()


def named_share(kind: str, share: float) -> str:
    """Return `balanced`, `all-to-one` or `one-to-all`, or what share of the bytes is theirs."""
    if share == 0:
        return "balanced"
    if share == 1:
        return {"to-one": "all-to-one", "from-one": "one-to-all"}[kind]
    return f"{kind}-{share:.0%}"
