"""Columns of Parquet files as arrays: every type that tables hold, in one piece or several, without pandas."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from traces.parquet import values_of

ROOT = Path(__file__).resolve().parents[2]
READING = """
import sys
from pathlib import Path
from traces.cost_table import load_costs
from traces.trace_file import load_trace
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
