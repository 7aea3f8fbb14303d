"""`vllm`: responses of vLLM 0.33 served with `--enable-return-routed-experts`.

`choices[i].routed_experts` is base64 of .npy bytes, (tokens - 1, hidden layers, k), from the request's
`routed_experts_prompt_start` on; ids are logical. Dense layers keep their slots as zeros.
"""

import io

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.npz import DAMAGE
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.importers.reading.responses import Rows, Usage, decoded, entry, read_responses, routed, usage
from moe_replay.traces.selections import Trace

TYPES = (np.uint8, np.uint16, np.int32)  # by the number of experts; int32 in older versions


def read(source: Source) -> Trace:
    """Return the trace of vLLM's responses, every choice a sequence; `--layers` names the MoE layers."""
    return read_responses(source, rows_of)


def rows_of(place: str, response: dict, source: Source) -> tuple[Usage, Rows]:
    """Return the tokens of a response and the rows of each of its choices."""
    counted = usage(f"{place}: usage", entry(place, response, "usage", dict))
    choices = entry(place, response, "choices", list)
    if not choices:
        raise InputError(f"{place}: choices is empty, allowed at least one")
    rows = []
    for at, choice in enumerate(choices):
        where = f"{place}: choices[{at}]"
        text = routed(where, choice, source)
        rows.append((where, None if text is None else array_of(where, text, source.options.experts)))
    return counted, rows


def array_of(place: str, text: object, experts: int) -> np.ndarray:
    """Return the array in a base64 text of .npy bytes; InputError for another type than vLLM writes."""
    try:
        rows = np.load(io.BytesIO(decoded(place, text)), allow_pickle=False)
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{place}: routed_experts is no whole .npy array ({str(error)[:60]})") from None
    if not isinstance(rows, np.ndarray) or rows.dtype not in TYPES:
        kind = getattr(rows, "dtype", type(rows).__name__)
        raise InputError(f"{place}: routed_experts is {kind}, allowed uint8, uint16 or int32")
    if rows.dtype == np.uint8 and experts > 256:
        raise InputError(f"{place}: routed_experts is uint8, allowed uint16 or int32 for {experts} experts")
    return rows
