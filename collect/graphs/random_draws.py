"""Which operations draw random numbers: torch's tag says which may, their arguments say which do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def draws(operation: Any, arguments: Sequence, named: Mapping[str, Any] | None = None) -> bool:
    """Return whether an operation called so draws from torch's generator.

    Fused attention carries the tag for its dropout: with `dropout_p` 0 it draws nothing. Neither does a dropout outside
    training.
    """
    if torch.Tag.nondeterministic_seeded not in getattr(operation, "tags", ()):
        return False
    schema = operation._schema.arguments
    given = {each.name: each.default_value for each in schema if each.has_default_value()}
    given |= dict(zip((each.name for each in schema), arguments, strict=False)) | dict(named or {})
    return given.get("dropout_p") != 0 and given.get("train") is not False
