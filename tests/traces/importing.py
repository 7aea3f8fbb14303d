"""What the tests of importers share: small random selections, and one way to import and to be refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.importer_names import import_files
from moe_replay.traces.importers.reading.import_source import Options

REAL = Path(os.environ.get("MOE_REPLAY_TRACES", Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"))


def needs_real(*parts):
    """The path of a published trace; the test is skipped where it is absent."""
    path = REAL.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the published trace {'/'.join(parts)}, which is not part of the project")
    return path


def selections(rng, tokens, layers, k, experts, dtype=np.uint8):
    """Random distinct experts [tokens, layers, k]."""
    return np.argsort(rng.random((tokens, layers, experts)), axis=-1)[..., :k].astype(dtype)


def imported(kind, *paths, **options):
    return import_files(kind, list(paths), Options(**options))


def refusal(kind, *paths, **options):
    """The one line that refuses an import."""
    with pytest.raises(InputError) as refused:
        imported(kind, *paths, **options)
    line = str(refused.value)
    assert line.isprintable()
    return line


def safetensors(tensors, kind="I32", **changes):
    """The bytes of a file of safetensors: 8 bytes with the header's length, the header as JSON, the tensors."""
    header, raw = {}, b""
    for name, values in tensors.items():
        content = np.asarray(values, {"I32": "<i4", "I64": "<i8"}[kind]).tobytes()
        offsets = [len(raw), len(raw) + len(content)]
        header[name] = {"dtype": kind, "shape": [len(values)], "data_offsets": offsets, **changes}
        raw += content
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + raw
