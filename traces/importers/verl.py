"""`verl`: a padded batch of rollouts saved with torch.save, read with weights only: a dictionary of tensors.

`routed_experts` [batch, length, layers, k] with `attention_mask` [batch, length] (prompts padded on the left, responses
on the right); `responses` or `response_mask` say how many of the tokens are no prompt. The dictionary may be under
`batch`. A pickled DataProto runs code on loading and is refused: save `dict(data.batch)` in its place.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.checked_rows import check_files
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.importers.reading.torch_file import arrays_in, torch_content
from moe_replay.traces.importers.sequences.padded_batch import mask_of, prompts_of, unpadded
from moe_replay.traces.importers.sequences.rollout_rows import Rollout, fitted, trace_of_rollouts
from moe_replay.traces.selections import Trace

EXPERTS = ("routed_experts", "rollout_routed_experts")


def read(source: Source) -> Trace:
    """Return the trace of all batches, every row of one a sequence; --layers names the MoE layers."""
    check_files(source)
    rollouts = [each for path in source.paths for each in rollouts_of(path)]
    return trace_of_rollouts(source, rollouts, [])


def rollouts_of(path: Path) -> list[Rollout]:
    """Return the sequences of a file, without their padding."""
    content = torch_content(path)
    arrays = arrays_in(content["batch"] if isinstance(content.get("batch"), dict) else content)
    name = next((each for each in EXPERTS if each in arrays), None)
    if name is None:
        raise InputError(f"{path}: holds {', '.join(arrays)!s:.80}, allowed routed_experts [batch, length, layers, k]")
    experts_BTLK = arrays[name]
    if experts_BTLK.ndim != 4 or experts_BTLK.dtype.kind not in "iu" or 0 in experts_BTLK.shape:
        found = f"{experts_BTLK.dtype} of shape {experts_BTLK.shape}"
        raise InputError(f"{path}: {name} is {found}, allowed whole numbers [batch, length, layers, k]")
    mask_BT = mask_of(str(path), arrays, experts_BTLK.shape[:2])
    prompt_B = prompts_of(str(path), arrays, mask_BT)
    if prompt_B is None:
        raise InputError(f"{path}: nothing says where responses begin, allowed responses, response_mask or prompts")
    ids_BT = arrays.get("input_ids")
    made = []
    for at, row_T in enumerate(mask_BT):
        ids = None if ids_BT is None or ids_BT.shape != mask_BT.shape else ids_BT[at][row_T].astype(np.int64)
        rows = unpadded(f"{path}: row {at}", experts_BTLK[at], row_T)
        made.append(fitted(Rollout(f"{path}: row {at}", rows, int(prompt_B[at]), ids), int(row_T.sum())))
    return made
