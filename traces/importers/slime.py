"""`slime`: rollouts that slime or miles saved with torch.save, `rollout_<N>.pt`, read with weights only.

`samples` are objects with `tokens`, `response_length` and `rollout_routed_experts` [tokens - 1, layers, k]; or
`rollout_data` has a list for each of them (`tokens`, `response_lengths`, `rollout_routed_experts`). All layers have
slots, dense ones zeros.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.checked_rows import check_files
from moe_replay.traces.importers.reading.import_source import ABORTED, Source
from moe_replay.traces.importers.reading.torch_file import array_of, torch_value
from moe_replay.traces.importers.sequences.rollout_rows import Rollout, experts_of, fitted, trace_of_rollouts
from moe_replay.traces.selections import Trace

EXPERTS = ("rollout_routed_experts", "routed_experts")


def read(source: Source) -> Trace:
    """Return the trace of all samples, each a sequence; --layers names the MoE layers where some are dense."""
    check_files(source)
    rollouts, aborted, samples = [], 0, 0
    for path in source.paths:
        for at, sample in enumerate(samples_of(path, torch_value(path))):
            place = f"{path}: sample {at}"
            made = rollout_of(source, place, sample)
            if made is None:
                aborted += 1
            else:
                rollouts.append(made)
            samples += 1
    left_out = [f"{aborted:,} of {samples:,} samples, which were aborted"] if aborted else []
    return trace_of_rollouts(source, rollouts, left_out)


def samples_of(path: Path, value: object) -> list[dict]:
    """Return the samples of a saved rollout; InputError for a file without any."""
    if isinstance(value, dict) and isinstance(value.get("rollout_data"), dict):
        value = by_sample(path, value["rollout_data"])
    elif isinstance(value, dict):
        value = value.get("samples", value)
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        raise InputError(f"{path}: no list of samples, allowed a rollout of slime: samples, or rollout_data")
    return value


def by_sample(path: Path, columns: dict) -> list[dict]:
    """Return the samples of lists by name."""
    name = next((each for each in EXPERTS if each in columns), EXPERTS[0])
    wanted = {"tokens": "tokens", "response_length": "response_lengths", name: name}
    lists = {field: columns.get(column) for field, column in wanted.items()}
    if not all(isinstance(each, list) for each in lists.values()) or len({len(each) for each in lists.values()}) > 1:
        raise InputError(f"{path}: rollout_data, allowed lists of one length: {', '.join(wanted.values())}")
    return [dict(zip(lists, each, strict=True)) for each in zip(*lists.values(), strict=True)]


def rollout_of(source: Source, place: str, sample: dict) -> Rollout | None:
    """Return a sample's rows, None where it has none and such samples are left out."""
    name = next((each for each in EXPERTS if each in sample), None)
    if name is None or sample[name] is None:
        if ABORTED not in source.options.leave_out:
            found = f"{EXPERTS[0]} is {'missing' if name is None else 'None, as of an aborted sample'}"
            raise InputError(f"{place}: {found}; allowed: --leave-out {ABORTED}")
        return None
    tokens, response = array_of(sample.get("tokens")), sample.get("response_length")
    if tokens is None or tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not len(tokens):
        raise InputError(f"{place}: tokens are no list of token ids")
    if not isinstance(response, int) or isinstance(response, bool):
        raise InputError(f"{place}: response_length is {response!r:.40}, allowed a whole number")
    experts_TLK = experts_of(f"{place}: {name}", array_of(sample[name]), source.options.k)
    return fitted(Rollout(place, experts_TLK, len(tokens) - response, tokens.astype(np.int64)), len(tokens))
