import json

import numpy as np
import pytest

from moe_replay.simulate.ordering.order_result import memory_at, peak_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.graph_file import load_graph, save_graph
from moe_replay.traces.training_graphs.training_graph import training_graph

# x (kept input) -> a -> b -> c; a's 10 bytes are read by b and c, b needs 5 while it runs.
OPERATIONS = [
    ("a", "mm", "forward", 0),
    ("b", "relu", "forward", 5),
    ("c", "mm", "backward", 0),
    ("d", "x", "optimizer", 0),
]
STORAGES = [(3, -1, False, [0]), (10, 0, False, [1, 2]), (4, 1, True, [2]), (7, 3, False, []), (9, -1, False, [])]
EDGES = [(1, 3)]


def toy():
    return training_graph("toy", OPERATIONS, STORAGES, EDGES, {"batch": 2}, {"command": "none"})


def test_memory_of_a_small_graph_is_what_the_margin_says():
    graph = toy()
    # step 0: 3 + 10; step 1: 10 + 4 + work 5; step 2: 10 + 4; step 3: 4 kept + 7, which nobody reads
    assert memory_at(graph, [0, 1, 2, 3]).tolist() == [13, 19, 14, 11]
    assert memory_at(graph, [0, 1, 3, 2]).tolist() == [13, 19, 21, 14]
    assert peak_of(graph, [0, 1, 3, 2]) == 21


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([0, 1, 2], "shape"),
        ([0, 1, 2, 4], "step 3: operation 4, allowed 0..3"),
        ([0, 1, 1, 2], "operation 3 never runs"),
        ([1, 0, 2, 3], "operation 1 runs at step 0, allowed after 0"),
        ([0, 3, 1, 2], "operation 3 runs at step 1, allowed after 1"),
        ([0.0, 1.0, 2.0, 3.0], "shape"),
    ],
)
def test_an_order_that_is_none_is_refused(order, said):
    with pytest.raises(InputError, match=said):
        peak_of(toy(), order)


def test_a_file_holds_the_whole_graph_and_the_same_graph_gives_the_same_bytes(tmp_path):
    save_graph(toy(), tmp_path / "a.json")
    read = load_graph(tmp_path / "a.json")
    save_graph(read, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read.digest == toy().digest
    assert read.names_N == ("a", "b", "c", "d")
    assert read.notes == {"batch": 2}
    assert read.users(1).tolist() == [1, 2]


def test_a_graph_of_1600_operations_is_a_small_file(tmp_path):
    rows = [
        (f"convolution_backward_{i}", "aten.convolution_backward.default", "recomputation", 10**8) for i in range(1600)
    ]
    storages = [(10**8 + i, i, False, [i + 1, i + 2]) for i in range(1598)]
    save_graph(training_graph("large", rows, storages, [(i, i + 9) for i in range(500)]), tmp_path / "large.json")
    assert (tmp_path / "large.json").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("kind", lambda _: "trace", "no training graph"),
        ("schema", lambda _: 9, "schema is 9, allowed 1"),
        ("schema", lambda _: True, "schema is True"),
        ("operations", lambda rows: [], "rows of another shape"),
        ("operations", lambda rows: [[*rows[0][:2], "sideways", 0], *rows[1:]], "phase is 'sideways', allowed forward"),
        ("operations", lambda rows: [["a", 0, "forward", -1], *rows[1:]], "operation 0: work is -1"),
        ("operations", lambda rows: [["a", 0, "forward"], *rows[1:]], "operation 0: .* allowed .name, kind"),
        ("operations", lambda rows: [[7, 0, "forward", 0], *rows[1:]], "7 where a name is needed"),
        ("operations", lambda rows: [["a", 9, "forward", 0], *rows[1:]], "operation 0: kind is 9, allowed 0..2"),
        ("kinds", lambda kinds: [1, *kinds[1:]], "1 where a name is needed"),
        ("storages", lambda rows: [[1.5, 0, False, [1]]], "1.5 where a whole number"),
        ("storages", lambda rows: [[1, 0, 1, [1]]], "kept is 1, allowed true or false"),
        ("storages", lambda rows: [[-1, 0, False, [1]]], "storage 0: bytes is -1"),
        ("storages", lambda rows: [[2**60, 0, False, [1]]], "whole number up to"),
        ("storages", lambda rows: [[1, 9, False, []]], "storage 0: producer is 9, allowed -1..3"),
        ("storages", lambda rows: [[1, 2, False, [1]]], "storage 0: user 1 after 2, allowed ascending operations 3..3"),
        ("storages", lambda rows: [[1, 0, False, [1, 1]]], "storage 0: user 1 after 1"),
        ("storages", lambda rows: [[1, 0, False, [1, 4]]], "storage 0: user 4"),
        ("storages", lambda rows: [[1, 0, False, []], [1, -1, False, [2, 0]]], "storage 1: user 0 after 2"),
        ("edges", lambda rows: [[2, 1]], "edge 0: 2 before 1, allowed ascending pairs"),
        ("edges", lambda rows: [[2, 4]], "edge 0: 2 before 4"),
        ("edges", lambda rows: [[1, 2, 3]], "rows of another shape|edge_E2"),
        ("notes", lambda _: [], "notes is a list, allowed a dict"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(tmp_path, key, change, said):
    path = tmp_path / "toy.json"
    save_graph(toy(), path)
    content = json.loads(path.read_text())
    content[key] = change(content[key])
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said) as refused:
        load_graph(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_keys_are_all_there_and_no_others(tmp_path):
    path = tmp_path / "toy.json"
    save_graph(toy(), path)
    content = json.loads(path.read_text())
    for changed, said in ((content | {"x": 1}, "'x' is unknown"), ({"kind": content["kind"]}, "'schema' is missing")):
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=said):
            load_graph(path)
    for text in ("", "[" * 100_000, "[]", "{"):
        path.write_text(text)
        with pytest.raises(InputError):
            load_graph(path)
    with pytest.raises(InputError, match="No such file"):
        load_graph(tmp_path / "absent.json")


def test_arrays_cannot_be_changed_behind_the_check():
    with pytest.raises(ValueError, match="read-only"):
        toy().bytes_S[0] = -1
    assert np.array_equal(toy().first_user_S1, [0, 1, 3, 4, 4, 4])
