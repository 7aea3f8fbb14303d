"""Tables with text, missing values and lists: whole or refused, equal bytes for equal tables, readable elsewhere."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import load_mixed, mixed_digest, mixed_header, save_mixed

COLUMNS = {
    "text": pa.array(["a", None, "", "é"], pa.string()),
    "number": pa.array([1, None, 3, 2**62], pa.int64()),
    "share": pa.array([0.1, float("nan"), None, -0.0], pa.float64()),
    "yes": pa.array([True, None, False, True], pa.bool_()),
    "parts": pa.array([[1.0, 2.0], [], None, [3.0]], pa.list_(pa.float64())),
    "nothing": pa.array([None] * 4, pa.int64()),
}


def test_what_was_written_is_read(tmp_path):
    for name in ("one", "other"):
        save_mixed(tmp_path / f"{name}.parquet", pa.table(COLUMNS), {"about": [1, None]}, "toys")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()
    table, header = load_mixed(tmp_path / "one.parquet", "toys")
    assert repr(table.to_pydict()) == repr(pa.table(COLUMNS).to_pydict())
    assert header["about"] == [1, None]
    assert mixed_header(tmp_path / "one.parquet", "toys") == header
    seen = pd.read_parquet(tmp_path / "one.parquet")
    assert seen["number"].isna().tolist() == [False, True, False, False]
    with pytest.raises(InputError, match="holds 'toys', expected 'costs'"):
        load_mixed(tmp_path / "one.parquet", "costs")


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("text", ["a", "", None, "é"]), ("text", ["a", None, "", "e"]), ("number", [1, 0, 3, 2**62]),
        ("share", [0.1, None, float("nan"), -0.0]), ("share", [0.1, float("nan"), None, 0.0]),
        ("yes", [True, False, None, True]), ("parts", [[1.0], [2.0], None, [3.0]]),
        ("parts", [[1.0, 2.0], None, [], [3.0]]), ("nothing", [None, None, None, 0]),
    ],
)  # fmt: skip
def test_every_difference_has_another_digest(name, changed):
    column = COLUMNS[name]
    assert mixed_digest(pa.array(changed, column.type)) != mixed_digest(column)
    assert mixed_digest(column.slice(1)) != mixed_digest(column)
    assert mixed_digest(pa.concat_arrays([column.slice(0, 1), column.slice(1)])) == mixed_digest(column)


def test_a_flipped_bit_never_reads_as_another_table(tmp_path):
    path, rng = tmp_path / "one.parquet", np.random.default_rng(0)
    save_mixed(path, pa.table(COLUMNS), {"about": "toys"}, "toys")
    whole = path.read_bytes()
    known = repr(load_mixed(path, "toys")[0].to_pydict()), load_mixed(path, "toys")[1]
    refused = 0
    for place in rng.choice(len(whole), 300, replace=False).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :])
        try:
            table, header = load_mixed(path, "toys")
        except InputError as error:
            refused += "\n" not in str(error)
        else:
            assert (repr(table.to_pydict()), header) == known
    assert refused > 150
