"""The checked form of compiled code: whatever is read or written beyond its bounds is refused, by name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.compiled import bounds, jit, run_layout
from moe_replay.simulate.compiled.arrays import array, element
from moe_replay.simulate.compiled.memory import cache_replay, memory_layout
from moe_replay.simulate.compiled.pointers import Pointed, pointers_field

PAIR = np.dtype([("mine", "i4"), ("its", "i4")])
ARRAYS = {"ones_N": (np.dtype("i8"), 1), "cubes_ABC": (np.dtype("i2"), 3), "pairs_N": (PAIR, 1)}
RECORD = np.dtype([("unused", "i8"), pointers_field(ARRAYS)])
ones_of, cubes_of, pair_at = array(ARRAYS, "ones_N"), array(ARRAYS, "cubes_ABC"), element(ARRAYS, "pairs_N")

ROOT = Path(__file__).resolve().parents[3]


@jit.compiled
def use(record, way, a, b, c):
    """Look an element up, or set it, in one of several ways; return what it is, or 0."""
    if way == 0:
        return ones_of(record)[a]
    if way == 1:
        ones_of(record)[a] = 7
    if way == 2:
        return cubes_of(record)[a, b, c]
    if way == 3:
        cubes_of(record)[a, b, c] += 7
    if way == 4:
        part = cubes_of(record)[a, b]
        part[c] = 7
    if way == 5:
        return pair_at(record, a).its
    if way == 6:
        pair_at(record, a).its = 7
    return 0


@jit.compiled
def use_first(records, way, a, b, c):
    return use(records[0], way, a, b, c)


def memory_in(form, monkeypatch):
    """Return a record whose arrays are the middle parts of longer ones: what lies beside them may be touched."""
    monkeypatch.setenv(bounds.VARIABLE, form)
    made, whole = Pointed(RECORD, ARRAYS), (np.arange(100), np.arange(600, dtype=np.int16), np.zeros(100, PAIR))
    made.put(ones_N=whole[0][40:45], cubes_ABC=whole[1][300:324].reshape(2, 3, 4), pairs_N=whole[2][40:45])
    made.whole = whole
    return made


@pytest.fixture
def usual(monkeypatch):
    return memory_in("0", monkeypatch)


@pytest.fixture
def checked(monkeypatch):
    return memory_in("1", monkeypatch)


LENGTHS = {0: (5,), 1: (5,), 2: (2, 3, 4), 3: (2, 3, 4), 4: (2, 3, 4), 5: (5,), 6: (5,)}
NAMES = {0: "ones_N", 1: "ones_N", 2: "cubes_ABC", 3: "cubes_ABC", 4: "cubes_ABC", 5: "pairs_N", 6: "pairs_N"}


def filled(places):
    return [*places, 0, 0][:3]


@pytest.mark.parametrize("way", LENGTHS)
def test_both_forms_do_the_same_within_the_bounds(usual, checked, way):
    for corner in ([0, 0, 0], [length - 1 for length in LENGTHS[way]]):
        found = []
        for memory in (usual, checked):
            for part in memory.whole:
                part[...] = np.arange(part.size).astype(part.dtype)
            found.append((use_first(memory.record, way, *filled(corner)), [part.tolist() for part in memory.whole]))
        assert found[0] == found[1]


@pytest.mark.parametrize("way", LENGTHS)
@pytest.mark.parametrize("beyond", [-1, -3, 0, 1, 1 << 40, -(1 << 62)])
def test_the_checked_form_refuses_what_is_out_of_bounds_in_any_dimension(checked, way, beyond):
    for dimension, length in enumerate(LENGTHS[way]):
        places = [0] * len(LENGTHS[way])
        places[dimension] = beyond if beyond < 0 else length + beyond
        before = [part.tobytes() for part in checked.whole]
        with pytest.raises(IndexError) as refused:
            use_first(checked.record, way, *filled(places))
        assert refused.value.args == (NAMES[way], places[dimension], length)
        assert [part.tobytes() for part in checked.whole] == before


def test_the_usual_form_checks_nothing(usual):
    use_first(usual.record, 1, 5, 0, 0)
    assert usual.whole[0][45] == 7


def test_what_is_refused_is_told_by_name():
    assert bounds.beyond("ones_N", -1, 5) == "ones_N[-1] is out of bounds, it has 5 places"


def test_a_length_and_a_shape_are_those_of_the_array(usual, checked):
    @jit.compiled
    def lengths_of(records):
        return len(ones_of(records[0])), len(cubes_of(records[0])), cubes_of(records[0]).shape

    assert lengths_of(usual.record) == lengths_of(checked.record) == (5, 2, (2, 3, 4))


def test_what_is_not_looked_up_by_numbers_is_refused_when_it_is_compiled(checked):
    @jit.compiled
    def part_of(records):
        return ones_of(records[0])[1:3].sum()

    with pytest.raises(NotImplementedError, match=r"ones_N is looked up by slice.*: only numbers are checked"):
        part_of(checked.record)


@pytest.mark.parametrize(("value", "marked"), [("1", True), ("0", False), ("", False), (None, False)])
def test_the_form_is_asked_for_by_the_environment(monkeypatch, value, marked):
    monkeypatch.delenv(bounds.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(bounds.VARIABLE, value)
    assert (bounds.MARK in Pointed(RECORD, ARRAYS).record.dtype.names) == marked


@pytest.mark.parametrize(
    ("layout", "arrays"),
    [(run_layout, "ARRAYS"), (memory_layout, "ARRAYS"), (cache_replay, "REPLAY_ARRAYS")],
    ids=["run", "memory", "replay"],
)
def test_every_array_of_a_layout_is_reached_by_its_name(layout, arrays):
    for name in getattr(layout, arrays):
        assert getattr(layout, name).py_func.__qualname__ == f"array_{name}"


def test_types_of_records_have_one_number_each_in_every_process():
    """Machine code names functions by them: two processes that number them otherwise make code that cannot be mixed."""
    code = """if True:
        import os, sys
        import numpy as np
        from moe_replay.simulate.compiled import bounds, entries
        os.environ[bounds.VARIABLE] = sys.argv[1]
        import numba
        made = [entries.play_resident, entries.play_with_memory, entries.play_masked, entries.fill]
        numba.typeof(np.zeros(1, bounds.form_of(made[0].records[0])))
        print(*(kind.dtype.mangling_args for entry in made for kind in entry.types))
    """
    said = [subprocess.check_output([sys.executable, "-c", code, form], cwd=ROOT, text=True) for form in ("0", "1")]
    assert said[0] == said[1]
    assert said[0].count("Record") >= 8
