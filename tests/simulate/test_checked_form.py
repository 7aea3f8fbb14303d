"""The checked form of compiled code: whatever is read or written beyond its bounds is refused, by name."""

import numpy as np
import pytest

from simulate.compiled import bounds, jit, machine_code
from simulate.compiled.intrinsics import array, element, record_at
from simulate.compiled.pointers import Pointed, pointers_field

PAIR = np.dtype([("mine", "i4"), ("its", "i4")])
ARRAYS = {"ones_N": (np.dtype("i8"), 1), "cubes_ABC": (np.dtype("i2"), 3), "pairs_N": (PAIR, 1)}
RECORD = np.dtype([("unused", "i8"), pointers_field(ARRAYS)])
ones_of, cubes_of, pair_at = array(ARRAYS, "ones_N"), array(ARRAYS, "cubes_ABC"), element(ARRAYS, "pairs_N")
usual, checked = record_at(RECORD), record_at(RECORD, checked=True)


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
def use_checked(address, way, a, b, c):
    return use(checked(address), way, a, b, c)


@jit.compiled
def use_usual(address, way, a, b, c):
    return use(usual(address), way, a, b, c)


@pytest.fixture(scope="module")
def calls():
    """Return the two forms as functions of Python."""
    made = (jit.object_code(each, 5) for each in (use_usual, use_checked))
    return [machine_code.callable_at(machine_code.loaded(*code), 5) for code in made]


@pytest.fixture
def memory():
    """Return a record whose arrays are the middle parts of longer ones: what lies beside them may be touched."""
    made, whole = Pointed(RECORD, ARRAYS), (np.arange(100), np.arange(600, dtype=np.int16), np.zeros(100, PAIR))
    made.put(ones_N=whole[0][40:45], cubes_ABC=whole[1][300:324].reshape(2, 3, 4), pairs_N=whole[2][40:45])
    made.whole = whole
    return made


LENGTHS = {0: (5,), 1: (5,), 2: (2, 3, 4), 3: (2, 3, 4), 4: (2, 3, 4), 5: (5,), 6: (5,)}
NAMES = {0: "ones_N", 1: "ones_N", 2: "cubes_ABC", 3: "cubes_ABC", 4: "cubes_ABC", 5: "pairs_N", 6: "pairs_N"}


def filled(places):
    return [*places, 0, 0][:3]


@pytest.mark.parametrize("way", LENGTHS)
def test_both_forms_do_the_same_within_the_bounds(calls, memory, way):
    for corner in ([0, 0, 0], [length - 1 for length in LENGTHS[way]]):
        found = []
        for call in calls:
            for part in memory.whole:
                part[...] = np.arange(part.size).astype(part.dtype)
            found.append((call(memory.address, way, *filled(corner)), [part.tolist() for part in memory.whole]))
        assert found[0] == found[1]


@pytest.mark.parametrize("way", LENGTHS)
@pytest.mark.parametrize("beyond", [-1, -3, 0, 1, 1 << 40, -(1 << 62)])
def test_the_checked_form_refuses_what_is_out_of_bounds_in_any_dimension(calls, memory, way, beyond):
    for dimension, length in enumerate(LENGTHS[way]):
        places = [0] * len(LENGTHS[way])
        places[dimension] = beyond if beyond < 0 else length + beyond
        before = [part.tobytes() for part in memory.whole]
        wrong = rf"^{NAMES[way]}\[{places[dimension]}\] is out of bounds, it has {length} places$"
        with pytest.raises(RuntimeError, match=wrong):
            calls[1](memory.address, way, *filled(places))
        assert [part.tobytes() for part in memory.whole] == before


def test_the_usual_form_checks_nothing(calls, memory):
    calls[0](memory.address, 1, 5, 0, 0)
    assert memory.whole[0][45] == 7


def test_the_form_is_asked_for_by_the_environment(monkeypatch):
    for value, name in (("1", "fill_checked"), ("0", "fill"), ("", "fill")):
        monkeypatch.setenv(bounds.VARIABLE, value)
        assert bounds.form_of("fill") == name
    monkeypatch.delenv(bounds.VARIABLE)
    assert bounds.form_of("fill") == "fill"
    assert bounds.usual_form_of("fill_checked") == bounds.usual_form_of("fill") == "fill"


def test_every_entry_has_a_checked_form():
    from simulate.compiled import entries

    assert all(hasattr(entries, name + bounds.CHECKED) for name in machine_code.ENTRIES)
