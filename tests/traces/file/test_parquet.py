"""Columns of Parquet files as arrays: every type that tables hold, in one piece or several, without pandas."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from moe_replay.traces.file.parquet import column_of, values_of

ROOT = Path(__file__).resolve().parents[3]
WRITING = """
import sys
from pathlib import Path
import numpy as np
from moe_replay.traces.file.parquet import write_table
write_table(Path(sys.argv[1]), {"a": np.arange(9), "b": np.ones(9), "c": np.ones(9, bool)}, {}, "costs")
print("pandas" in sys.modules)
"""
READING = """
import sys
from pathlib import Path
from moe_replay.traces.runs.cost_table import load_costs
from moe_replay.traces.file.trace_file import load_trace
folder = Path("traces/data/cpu-amd-epyc/cifar10")
print(len(load_trace(folder / "wide.trace.parquet").sequence_T), *load_costs(folder / "costs.parquet").columns)
print("pandas" in sys.modules)
"""
TYPES = ["int8", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", "bool"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("pieces", [[[1, 0, 1]], [[1, 0], [], [1]], [[]], []], ids=["one", "several", "empty", "none"])
def test_values_are_those_of_the_column(dtype, pieces):
    arrays = [np.array(piece, dtype) for piece in pieces]
    column = pa.chunked_array([pa.array(array) for array in arrays], pa.from_numpy_dtype(np.dtype(dtype)))
    found = values_of(column)
    assert found.dtype == dtype
    assert np.array_equal(found, np.concatenate([np.empty(0, dtype), *arrays]))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("values", [[1, 0, 1] * 7, []], ids=["many", "none"])
def test_a_column_is_pyarrows_own(dtype, values):
    for array in (np.array(values, dtype), np.repeat(np.array(values, dtype), 2)[::2]):
        assert column_of(array).equals(pa.array(array))
        assert np.array_equal(values_of(column_of(array)), array)


def test_numbers_that_are_none_are_kept_as_they_are():
    assert column_of(np.array([np.nan, 1.0])).null_count == 0
    assert column_of(np.array(["one", "two"])).to_pylist() == ["one", "two"]


def test_a_slice_is_not_the_whole():
    for whole in (np.arange(100), np.arange(100) % 3 == 0):
        assert np.array_equal(values_of(pa.array(whole)[13:57]), whole[13:57])


def test_texts_are_objects():
    assert values_of(pa.array(["one", "two"])).tolist() == ["one", "two"]


@pytest.mark.parametrize("values", [[1, None], [0.5, None], [True, None]])
def test_a_missing_number_is_refused(values):
    with pytest.raises(pa.ArrowException, match="values are missing"):
        values_of(pa.array(values))


def test_reading_a_trace_and_costs_imports_no_pandas():
    done = subprocess.run([sys.executable, "-c", READING], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("\nFalse\n"), done.stderr


def test_writing_a_table_imports_no_pandas(tmp_path):
    command = [sys.executable, "-c", WRITING, str(tmp_path / "table.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
