"""`sglang`: responses of SGLang 0.5.23 served with `--enable-return-routed-experts`.

base64 of raw int32 without a header, for the tokens [routed_experts_start_len, tokens - 1), every hidden layer and k
experts; `/generate` has it in `meta_info`, the OpenAI endpoints in `sgl_ext`. Padding is -1.
"""

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.importers.reading.responses import Rows, Usage, decoded, entry, read_responses, routed, usage
from moe_replay.traces.selections import Trace


def read(source: Source) -> Trace:
    """Return the trace of SGLang's responses; --hidden-layers and --k give the shape that the bytes do not tell."""
    return read_responses(source, rows_of)


def rows_of(place: str, response: dict, source: Source) -> tuple[Usage, Rows]:
    """Return the tokens of a response and the rows of its sequence."""
    if "meta_info" in response:
        where = f"{place}: meta_info"
        content = entry(place, response, "meta_info", dict)
        counted = usage(where, content)
    elif "sgl_ext" in response:
        where = f"{place}: sgl_ext"
        content = entry(place, response, "sgl_ext", dict)
        counted = usage(f"{place}: usage", entry(place, response, "usage", dict))
    else:
        raise InputError(f"{place}: neither meta_info nor sgl_ext, allowed a response of SGLang with one of them")
    shape = (source.options.hidden_layers, source.options.k)
    text = routed(where, content, source)
    return counted, [(where, None if text is None else array_of(where, text, shape))]


def array_of(place: str, text: object, shape: tuple[int, int]) -> np.ndarray:
    """Return [rows, hidden layers, k] of a base64 text of raw int32; InputError if its size does not fit."""
    content, size = decoded(place, text), 4 * shape[0] * shape[1]
    if not content or len(content) % size:
        stated = f"{shape[0]} hidden layers x {shape[1]} experts x 4 bytes"
        raise InputError(f"{place}: routed_experts has {len(content)} bytes, allowed a multiple of {size}: {stated}")
    return np.frombuffer(content, "<i4").reshape(-1, *shape)
