"""Some 3,500 damaged files: each loads to exactly the trace that was saved, or is refused in one line.

Damage of three kinds: to bytes, as disks and downloads do it; through Parquet, where every checksum of the format is
right and only our digests can tell; and to the header with its digest made right again, where only sense can tell.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tiny_traces import assert_same, random_trace, tiny

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import HEADER_KEY, header_digest
from moe_replay.traces.file.trace_file import load_trace, save_trace

ROOT = Path(__file__).resolve().parents[3]
# Sentences that say the file itself cannot be read; whatever is refused without them was found by our own checks.
UNREADABLE = "not a whole Parquet file of moe-replay"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A trace with every field, and its file."""
    path = tmp_path_factory.mktemp("original") / "x.trace.parquet"
    trace = random_trace(np.random.default_rng(11), tokens=30)
    save_trace(trace, path)
    return trace, path


def outcome(path, trace):
    """Load a damaged file: `same`, or the line that refuses it. Anything else fails the test."""
    try:
        found = load_trace(path)
    except InputError as error:
        line = str(error)
        assert line.startswith(f"{path}: ")
        assert line.isprintable()
        return line.removeprefix(f"{path}: ")
    assert_same(found, trace)
    return "same"


def outcomes(original, tmp_path, damaged_bytes):
    """Write and load each damaged content; return what came of it."""
    trace, _ = original
    path = tmp_path / "damaged.trace.parquet"
    found = []
    for content in damaged_bytes:
        path.write_bytes(content)
        found.append(outcome(path, trace))
    return found


def test_cut_short(original, tmp_path):
    content = original[1].read_bytes()
    lengths = np.unique(np.linspace(0, len(content) - 1, 300).astype(int)).tolist()
    found = outcomes(original, tmp_path, (content[:length] for length in lengths))
    assert len(found) == 300
    assert all(line.startswith(UNREADABLE) for line in found)


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits(original, tmp_path, seed):
    content, rng = original[1].read_bytes(), np.random.default_rng(seed)

    def flipped():
        for _ in range(300):
            damaged = bytearray(content)
            for at in rng.integers(len(content), size=rng.integers(1, 4)):
                damaged[at] ^= 1 << rng.integers(8)
            yield bytes(damaged)

    found = outcomes(original, tmp_path, flipped())
    assert len(found) == 300
    assert found.count("same") < 60  # what Parquet's footer says beside the data: its writer, its statistics


def test_overwritten_moved_doubled_and_missing_bytes(original, tmp_path):
    content, rng = original[1].read_bytes(), np.random.default_rng(5)

    def changed():
        for kind in range(400):
            start, length = int(rng.integers(len(content))), int(rng.integers(1, 200))
            piece, rest = content[start : start + length], content[start + length :]
            other = int(rng.integers(len(content)))
            yield (
                content[:start] + rng.bytes(len(piece)) + rest,
                content[:start] + bytes(len(piece)) + rest,
                content[:start] + rest,
                content[:other] + piece + content[other:],
            )[kind % 4]

    found = outcomes(original, tmp_path, changed())
    assert len(found) == 400
    assert found.count("same") < 40


def test_what_is_no_parquet_file_at_all(original, tmp_path):
    things = [
        b"",
        b"\0" * 5000,
        b"PAR1",
        b"PAR1PAR1",
        b"PAR1" + b"\xff" * 100 + b"PAR1",
        b"row,layer\n0,0\n",
        b"\x80\x04.",
    ]
    assert all(line.startswith(UNREADABLE) for line in outcomes(original, tmp_path, things))


def rewrite(path, table, header=...):
    """Write a table the way pyarrow does it for anybody, with the header it had or another."""
    metadata = table.schema.metadata if header is ... else {HEADER_KEY: json.dumps(header)}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", write_page_checksum=True)


def replaced(table, name, values):
    """The table with other values in one column, of the column's own type and without nulls."""
    at = table.column_names.index(name)
    return table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def test_a_rewritten_file_with_the_same_content_is_the_same_trace(original, tmp_path):
    trace, path = original
    rewrite(tmp_path / "x", pq.read_table(path))
    assert outcome(tmp_path / "x", trace) == "same"


@pytest.mark.parametrize("name", [
    "row", "layer", "sequence", "position", "step", "phase", "token_id", "rank", "norm", "label", "prediction",
    "domain", "prompt_len", "arrival_ns", "expert_0", "expert_1", "expert_2", "score_0", "score_1", "score_2",
])  # fmt: skip
def test_changed_values_with_good_checksums(original, tmp_path, name):
    trace, path = original
    table, rng = pq.read_table(path), np.random.default_rng(len(name))
    values = table[name].to_pylist()
    for _ in range(25):
        changed = list(values)
        if rng.integers(2):  # one other value
            at = int(rng.integers(len(values)))
            other = {str: values[at] + "x" if name == "domain" else None, float: 0.01, int: int(rng.integers(-3, 100))}
            changed[at] = other[type(values[at])]
        else:  # the values of two rows exchanged
            first, second = rng.choice(len(values), 2, replace=False)
            changed[first], changed[second] = changed[second], changed[first]
        rewrite(tmp_path / "x", replaced(table, name, changed))
        line = outcome(tmp_path / "x", trace)
        assert (line == "same") == (changed == values)
        assert not line.startswith(UNREADABLE)


def test_shuffled_dropped_and_doubled_rows_with_good_checksums(original, tmp_path):
    trace, path = original
    table, rng = pq.read_table(path), np.random.default_rng(1)
    rows = np.arange(table.num_rows)
    for _ in range(100):
        first, second = np.sort(rng.choice(len(rows), 2, replace=False))
        for order in (
            rng.permutation(rows),
            np.concatenate([rows[:first], rows[second:], rows[first:second]]),
            np.delete(rows, first),
            np.insert(rows, second, first),
            np.repeat(rows[::2], 2),
        ):
            rewrite(tmp_path / "x", table.take(order))
            line = outcome(tmp_path / "x", trace)
            assert (line == "same") == (order.tolist() == rows.tolist())
            assert not line.startswith(UNREADABLE)


def test_whole_tokens_in_another_order_with_row_numbers_made_right(original, tmp_path):
    trace, path = original
    table, rng = pq.read_table(path), np.random.default_rng(2)
    for _ in range(60):
        tokens = rng.permutation(trace.T)
        order = (tokens[:, None] * trace.L + np.arange(trace.L)).ravel()
        shuffled = replaced(table.take(order), "row", table["row"].to_pylist())
        rewrite(tmp_path / "x", shuffled)
        assert outcome(tmp_path / "x", trace) != "same"


def test_columns_of_other_types(original, tmp_path):
    trace, path = original
    table = pq.read_table(path)
    for at, found in enumerate(table.schema):
        texts = found.name == "domain"
        for other in [pa.binary()] if texts else [pa.int64(), pa.float64(), pa.string(), pa.int8(), pa.uint32()]:
            if other != found.type:
                cast = pc.cast(table[found.name], other, safe=False)
                rewrite(tmp_path / "x", table.set_column(at, pa.field(found.name, other, nullable=False), cast))
                assert outcome(tmp_path / "x", trace).startswith(
                    f"column {found.name} is {other}, expected {found.type}"
                )
        rewrite(tmp_path / "x", table.set_column(at, pa.field(found.name, found.type), table[found.name]))
        assert outcome(tmp_path / "x", trace).startswith(f"column {found.name} is {found.type} with nulls, expected")


def test_columns_missing_renamed_added_doubled_and_moved(original, tmp_path):
    trace, path = original
    table = pq.read_table(path)
    for name in table.column_names:
        column, field = table[name], table.schema.field(name)
        rest = table.drop_columns(name)
        for changed, line in (
            (rest, f"column {name} is missing"),
            (rest.append_column(field.with_name("other"), column), f"column {name} is missing"),
            (table.append_column(field.with_name("other"), column), "column 'other' is unknown; known: row, layer"),
            (table.append_column(field, column), ""),
            (
                rest.append_column(field, column),
                "" if name == table.column_names[-1] else "columns are in another order: ",
            ),
        ):
            rewrite(tmp_path / "x", changed.replace_schema_metadata(table.schema.metadata))
            found = outcome(tmp_path / "x", trace)
            assert found.startswith(line)
            assert (found == "same") == (changed.column_names == table.column_names)


HEADER_CHANGES = [
    (["tokens"], [0, -1, 29, 31, 2**31, 1e9, "30", None, True, [30], ...]),
    (["slots"], [0, 2, 4, 2**40, 3.0, "3", None, ...]),
    (["digests"], [{}, [], None, "x", 5, True, {"experts_TLK": "0"}, {"other": "0"}, ...]),
    (["digests", "experts_TLK"], ["0" * 32, None, 5, [], ...]),
    (["digests", "scores_TLK"], ["0" * 32, ...]),
    (["digests", "label_S"], ["0" * 32, ...]),
    (["digests", "domain_S"], ["0" * 32, ...]),
    (["model", "experts"], [0, 1, 2, 3, 5, -8, 2**15, 8.0, "8", None, ...]),
    (["model", "used_k"], [0, 9, 2**70, "2", None, ...]),
    (["model", "layer_ids"], [[], [1], [3, 1], [1, 1], [1, 2, 3], ["1", "3"], [1, 2.5], "13", None, {"1": 3}, ...]),
    (["model", "name"], ["", 3, None, "\ud800", ...]),
    (["model", "expert_bytes"], [0, -1, "1", 1.5, ...]),
    (["model"], [None, [], "tiny", {}, ...]),
    (["score_kind"], [None, "relu", 1, ["softmax"], {}, ...]),
    (["ranked"], [None, 1, "true", ...]),
    (["data"], [None, [], {}, {"name": "x"}, {"name": 1, "digest": None, "note": None}, ...]),
    (["gate_rule"], [None, "", 4, ...]),
    (["device"], [None, "", 4, ...]),
    (["provenance"], [None, [], "x", ...]),
    (["notes"], [None, [], 3, ...]),
    (["schema"], [0, 2, "1", None, True, 1.5, ...]),
    (["kind"], ["passes", None, 3, ["trace"], ...]),
    (["extra"], [1]),
]


@pytest.mark.parametrize(("place", "values"), HEADER_CHANGES, ids=[".".join(place) for place, _ in HEADER_CHANGES])
def test_impossible_headers_with_a_right_digest(original, tmp_path, place, values):
    trace, path = original
    table = pq.read_table(path)
    for value in values:
        header = json.loads(table.schema.metadata[HEADER_KEY])
        at = header
        for key in place[:-1]:
            at = at[key]
        if value is ...:
            del at[place[-1]]
        else:
            at[place[-1]] = value
        rewrite(tmp_path / "x", table, header)
        assert "the header does not match its own digest" in outcome(tmp_path / "x", trace)
        header["header_digest"] = header_digest(header)
        rewrite(tmp_path / "x", table, header)
        line = outcome(tmp_path / "x", trace)
        assert line != "same"
        assert not line.startswith(UNREADABLE)


@pytest.mark.parametrize("header", [[], "x", 3, None, {}, {"header_digest": None}, {"kind": "trace"}])
def test_headers_that_are_no_headers(original, tmp_path, header):
    trace, path = original
    rewrite(tmp_path / "x", pq.read_table(path), header)
    assert outcome(tmp_path / "x", trace) == "the header does not match its own digest: the file was changed"


def test_a_header_of_nested_brackets(original, tmp_path):
    trace, path = original
    metadata = {HEADER_KEY: b"[" * 100_000}
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), tmp_path / "x")
    assert outcome(tmp_path / "x", trace).startswith(UNREADABLE)


def test_parquet_files_of_others(original, tmp_path):
    pq.write_table(pa.table({"row": [1, 2]}), tmp_path / "x")
    message = "a Parquet file, but not one of moe-replay: it has no moe-replay header"
    assert outcome(tmp_path / "x", original[0]) == message


def test_an_impossible_value_is_named_rather_than_the_digest(tmp_path):
    """Someone who edits a file by hand learns what is wrong with the edit."""
    save_trace(tiny(), tmp_path / "x")
    table = pq.read_table(tmp_path / "x")
    rewrite(tmp_path / "x", replaced(table, "expert_1", [1, 3, 9, -1, 2, 9]))
    assert (
        outcome(tmp_path / "x", tiny()) == "row 1, layer 0: expert_1 is 9, allowed 0..3, or -1 if empty (2 such rows)"
    )
    rewrite(tmp_path / "x", replaced(table, "label", [70, 70, 70, 71, 50, 50]))
    assert outcome(tmp_path / "x", tiny()) == "row 1: label is [70, 71], allowed one value in all layers"
    rewrite(tmp_path / "x", replaced(table, "label", [70, 70, 71, 71, 50, 50]))
    assert outcome(tmp_path / "x", tiny()) == "sequence 7: label is both 70 and 71, allowed one value per sequence"
    rewrite(tmp_path / "x", replaced(table, "expert_1", [2, 3, 0, -1, 2, 1]))
    assert outcome(tmp_path / "x", tiny()) == "column expert does not match its digest: the file was changed"


@pytest.mark.parametrize("kind", ["cut", "flipped", "edited", "header", "folder", "absent"])
def test_the_command_says_it_in_one_line_and_with_status_2(original, tmp_path, kind):
    path = tmp_path / "bad.trace.parquet"
    content, table = bytearray(original[1].read_bytes()), pq.read_table(original[1])
    if kind == "cut":
        path.write_bytes(content[:2000])
    elif kind == "flipped":
        content[200] ^= 4
        path.write_bytes(content)
    elif kind == "edited":
        rewrite(path, replaced(table, "expert_0", [77] * table.num_rows))
    elif kind == "header":
        rewrite(path, table, {"kind": "trace"})
    elif kind == "folder":
        path.mkdir()
    command = [sys.executable, "-m", "traces", "check", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"traces: {path}: ")
