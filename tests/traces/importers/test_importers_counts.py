"""`import smartmoe`: count logs come in as they are and describe; logs that cannot be are refused."""

import numpy as np
import pytest
from importing import imported, needs_real, refusal

from moe_replay.traces.describe_loads import max_over_mean_SL

ITERATIONS, RANKS = (1, 11, 101), (0, 1, 10)


def counts(rng, total=40, layers=3, experts=8):
    """Counts [layers, 4 microbatches, experts] of which every row sums to `total`."""
    return rng.multinomial(total, rng.dirichlet(np.ones(experts)), (layers, 4))


def log_lines(table):
    return [f"{layer}:{rows.astype(float).tolist()}" for layer, rows in enumerate(table)]


@pytest.fixture
def folder(tmp_path, rng):
    """Logs of three iterations on three ranks, and what is in them."""
    tables = {(i, r): counts(rng) for i in ITERATIONS for r in RANKS}
    for (iteration, rank), table in tables.items():
        (tmp_path / f"table_iter{iteration}_rank{rank}.log").write_text("\n".join(log_lines(table)) + "\n")
    return tmp_path, tables


def test_logs_come_in_as_they_are(folder):
    path, tables = folder
    loads = imported("smartmoe", path, model="mine")
    assert loads.load_SRMLE.shape == (3, 3, 4, 3, 8)
    assert (loads.iteration_S.tolist(), loads.rank_R.tolist()) == ([1, 11, 101], [0, 1, 10])
    for s, iteration in enumerate(ITERATIONS):
        for r, rank in enumerate(RANKS):
            assert (loads.load_SRMLE[s, r].transpose(1, 0, 2) == tables[iteration, rank]).all()
    assert loads.notes["tokens_per_row"] == 20
    again = imported("smartmoe", *sorted(path.glob("*.log")), model="mine")
    assert again.digest == loads.digest


def test_logs_of_zeros_recorded_nothing(tmp_path):
    zeros = np.zeros((3, 4, 8))
    (tmp_path / "table_iter0_rank0.log").write_text("\n".join(log_lines(zeros)) + "\n")
    assert refusal("smartmoe", tmp_path).endswith("every count is zero: nothing was recorded")


def swapped(at, text):
    def change(lines):
        lines[at] = text(lines[at]) if callable(text) else text

    return change


MALFORMED = {
    "a row with another sum": (swapped(1, lambda line: line.replace("[[", "[[1", 1)), "layer 1, microbatch 0 sums to"),
    "a fraction": (swapped(1, "1:[[0.5, 1.0]]"), "microbatch 0, expert 0: count is 0.5, allowed whole numbers >= 0"),
    "below zero": (swapped(1, "1:[[-1, 1.0]]"), "count is -1, allowed whole numbers >= 0"),
    "no number": (swapped(1, "1:[[NaN, 1.0]]"), "count is nan, allowed whole numbers >= 0"),
    "infinite": (swapped(1, "1:[[Infinity, 1.0]]"), "count is inf, allowed whole numbers >= 0"),
    "rows of other lengths": (swapped(1, "1:[[1.0], [1.0, 2.0]]"), "layer 1: no rows of equally many numbers"),
    "texts": (swapped(1, '1:[["a"]]'), "layer 1: no rows of equally many numbers"),
    "one list": (swapped(1, "1:[1.0, 2.0]"), "shape (2,), allowed [microbatches, experts]"),
    "cut short": (swapped(2, lambda line: line[:-9]), "layer 2: no rows of equally many numbers"),
    "another shape": (swapped(1, "1:[[1.0, 2.0]]"), "[microbatches, experts] is (1, 2), allowed (4, 8) as in layer 0"),
    "a layer missing": (lambda lines: lines.pop(1), "line 2 begins '2:[["),
    "the last layer missing": (lambda lines: lines.pop(), "2 layers of 4 microbatches x 8 experts, allowed 3 layers"),
    "a layer twice": (lambda lines: lines.insert(1, lines[0]), "line 2 begins '0:[["),
    "no colon": (swapped(0, "hello"), "line 1 begins 'hello', allowed '0:[['"),
    "nothing": (lambda lines: lines.clear(), "empty, allowed a line per layer"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_logs_are_refused(folder, name):
    change, message = MALFORMED[name]
    path = folder[0] / "table_iter11_rank1.log"
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines))
    line = refusal("smartmoe", folder[0])
    assert line.startswith(f"{path}: ")
    assert message in line


def test_sets_of_logs_that_do_not_fit_are_refused(folder, tmp_path, rng):
    path, _ = folder
    first = path / "table_iter1_rank0.log"
    assert "rank 0 was in" in refusal("smartmoe", first, first)
    assert "rows have 8 counts, but --experts is 9" in refusal("smartmoe", path, experts=9)
    assert "40 selections in a layer, allowed a multiple of 3" in refusal("smartmoe", path, k=3)
    assert "--layers means nothing here; allowed: --model, --experts, --k" in refusal("smartmoe", path, layers="all")
    (path / "table_iter11_rank1.log").unlink()
    assert "no log of iteration 11, rank 1, allowed: every rank in every iteration" in refusal("smartmoe", path)
    copied = np.repeat(counts(rng, layers=1), 3, axis=0)
    first.write_text("\n".join(log_lines(copied)))
    assert "layers 0 and 1 hold the same counts everywhere" in refusal("smartmoe", first)
    first.write_bytes(b"\xff")
    assert "not text" in refusal("smartmoe", first)
    assert "no such file" in refusal("smartmoe", path / "table_iter9_rank0.log")
    assert "allowed the name table_iter<I>_rank<R>.log" in refusal("smartmoe", path / "x.log")
    (path / "empty").mkdir()
    assert "a folder without logs" in refusal("smartmoe", path / "empty")


def test_the_published_logs_give_the_published_numbers():
    """Every hundredth iteration is here: the totals of an iteration and layer are those of the whole trace."""
    loads = imported("smartmoe", needs_real("smartmoe", "moe_trace"))
    assert loads.load_SRMLE.shape == (51, 16, 4, 24, 32)
    assert loads.iteration_S.tolist() == list(range(1, 5002, 100))
    assert (loads.load_SRMLE.sum(-1) == 4096).all()
    assert (loads.load_SRMLE.sum((1, 2, 4)) == 262_144).all()
    uneven_SL = max_over_mean_SL(loads)
    assert uneven_SL.max() <= 16  # E / k, where every token selects the same expert
    np.testing.assert_allclose(uneven_SL[[0, -1]].mean(1), [1.5428, 12.585], atol=0.0005)
    np.testing.assert_allclose(np.median(uneven_SL[[0, -1]], axis=1), [1.52, 14.6], atol=0.05)


def log_folder(path, tables):
    """Logs of SmartMoE, one per rank."""
    path.mkdir(exist_ok=True)
    for rank, table in enumerate(tables):
        (path / f"table_iter1_rank{rank}.log").write_text("\n".join(log_lines(table)))
    return path


def test_ranks_that_saw_the_same_tokens_do_not_count_twice(tmp_path, rng):
    table = counts(rng)
    path = log_folder(tmp_path / "logs", [counts(rng), table, table])
    assert "ranks 1 and 2 hold the same counts everywhere: tensor parallel ranks" in refusal("smartmoe", path)


def with_shared(table, k=2):
    """Counts with an expert more that every token selects."""
    return np.concatenate([table, table.sum(-1, keepdims=True) // k], -1)


def test_a_shared_expert_among_the_counts_is_refused_or_left_out(tmp_path, rng):
    tables = [counts(rng), counts(rng)]
    path = log_folder(tmp_path / "logs", [with_shared(table) for table in tables])
    line = refusal("smartmoe", path, k=3)
    assert "expert 8 was selected by every token in all 3 layers: it looks like a shared expert" in line
    loads = imported("smartmoe", path, k=2, experts=8, shared_slots=1)
    assert loads.load_LE.tolist() == sum(table.sum(1) for table in tables).tolist()
    assert loads.notes["tokens_per_row"] == 20
    assert (loads.model.experts, loads.model.used_k, loads.model.shared_experts) == (8, 2, 1)
    assert imported("smartmoe", path, k=3, shared_slots=0).model.experts == 9


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"k": 4, "shared_slots": 1}, "the last 1 experts have 20 selections, the others 40, allowed with"),
        ({"k": 2, "shared_slots": 2}, "the last 2 experts have "),
        ({"k": 2, "shared_slots": 9}, "--shared-slots 9, allowed fewer than 9 experts"),
    ],
)
def test_counts_that_are_no_shared_experts_are_refused(tmp_path, rng, stated, message):
    path = log_folder(tmp_path / "logs", [with_shared(counts(rng))])
    assert message in refusal("smartmoe", path, **stated)


@pytest.mark.parametrize("hot", ["one layer", "few tokens"])
def test_what_chance_or_one_hot_layer_explains_is_no_shared_count(tmp_path, rng, hot):
    table = with_shared(counts(rng, total=4 if hot == "few tokens" else 40))
    if hot == "one layer":
        table[1:] = np.roll(table[1:], 1, -1)
        table[2] = np.roll(table[2], 1, -1)
    assert imported("smartmoe", log_folder(tmp_path / "logs", [table]), k=3).model.shared_experts == 0
