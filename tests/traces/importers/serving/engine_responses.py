"""Responses of serving engines in every form that is seen, from small arrays of rows."""

import base64
import io
import json

import numpy as np


def npy(rows):
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return base64.b64encode(buffer.getvalue()).decode()


def raw(rows, dtype="<i4"):
    return base64.b64encode(np.ascontiguousarray(rows, dtype).tobytes()).decode()


def said_beside(rows, dtype):
    return {"routed_experts": raw(rows, dtype), "routed_experts_dtype": dtype}


# What an object holds beside the tokens, for rows [rows, layers, k] and a type.
FORMS = {
    "npy": lambda rows, dtype: {"routed_experts": npy(rows.astype(dtype))},
    "lists": lambda rows, dtype: {"routed_experts": rows.tolist()},
    "raw, shape and type beside": lambda rows, dtype: (
        said_beside(rows, dtype) | {"routed_experts_shape": [*rows.shape]}
    ),
    "object of raw bytes": lambda rows, dtype: {
        "routed_experts": {"data": raw(rows, dtype), "shape": [*rows.shape], "dtype": dtype}
    },
    "object of numbers in a row": lambda rows, dtype: {
        "routed_experts": {"data": rows.ravel().tolist(), "shape": [*rows.shape]}
    },
    "object of lists, with start": lambda rows, dtype: {"routed_experts": {"data": rows.tolist(), "start": 0}},
    "object of .npy": lambda rows, dtype: {
        "routed_experts": {"data": npy(rows.astype(dtype)), "dtype": f"torch.{dtype}"}
    },
}


def vllm(*choices, **response):
    """A response of vLLM: its choices are objects that hold rows."""
    return {"choices": list(choices), **response}


def generate(content, prompt, generated, **beside):
    """A response of SGLang's /generate."""
    return {"text": "", "meta_info": {"prompt_tokens": prompt, "completion_tokens": generated, **content, **beside}}


def usage(prompt, generated):
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}}


def written(path, *contents):
    """A file of one response, or of one in each line."""
    text = "\n".join(json.dumps(each) for each in contents) if path.suffix == ".jsonl" else json.dumps(contents[0])
    path.write_text(text)
    return path
