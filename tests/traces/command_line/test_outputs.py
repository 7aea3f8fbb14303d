"""What an output may replace: nothing that is there is lost unasked, and an input is never an output."""

import json
import os
import sys

import pytest

from moe_replay.traces.command_line.files import write_json
from moe_replay.traces.command_line.outputs import check_place, is_made, provenance_of, staged
from moe_replay.traces.command_line.provenance import note_inputs, provenance
from moe_replay.traces.errors import InputError


@pytest.fixture(autouse=True)
def command(monkeypatch, tmp_path):
    """Stand in an empty folder, as the command `python -m traces words`; return what makes it another one."""
    monkeypatch.chdir(tmp_path)

    def become(*words):
        monkeypatch.setattr(sys, "argv", ["traces/__main__.py", *words])
        note_inputs({})

    become("make", "x")
    return become


def write(path, text="one", **options):
    with staged(path, **options) as written:
        written.write_text(text)


def write_both(path, inputs=(), force=False):
    with staged(path, inputs, force) as written:
        written.write_text("table")
        write_json(written.with_suffix(".json"), {})


def write_half(path):
    with staged(path) as written:
        written.write_text("half")
        raise ZeroDivisionError


def test_a_new_output_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_half(tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "below" / "x.csv")
    assert [path.name for path in tmp_path.rglob("*")] == ["below", "x.csv"]


def test_what_is_there_is_left_where_it_is_the_same_and_refused_where_it_is_not(tmp_path):
    path = tmp_path / "x.csv"
    write(path)
    stamp = path.stat().st_ino
    write(path)
    assert path.stat().st_ino == stamp
    with pytest.raises(
        InputError, match=r"x\.csv: exists with other content, and does not say how it was made; allowed"
    ):
        write(path, "two")
    assert path.read_text() == "one"
    write(path, "two", force=True)
    assert path.read_text() == "two"
    assert [each.name for each in tmp_path.iterdir()] == ["x.csv"]


def test_files_beside_an_output_are_guarded_too_and_none_is_moved_before_all_may(tmp_path):
    (tmp_path / "x.json").write_text("somebody's")
    with pytest.raises(InputError, match=r"x\.json: exists"):
        write_both(tmp_path / "x.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_another_commands_output_is_refused_before_anything_is_worked_out(tmp_path, command):
    path = tmp_path / "x.json"
    write_json(path, {"provenance": provenance(1)})
    command("make", "x", "--seed", "2")
    with pytest.raises(InputError, match="made by `python -m traces make x`; allowed: --force"), staged(path):
        pytest.fail("it began")


@pytest.mark.parametrize("force", [False, True])
def test_an_input_is_never_an_output(tmp_path, force):
    trace, folder = tmp_path / "x.parquet", tmp_path / "parts"
    folder.mkdir()
    for path in (trace, folder / "part-0.parquet"):
        path.write_text("a trace")
    os.link(trace, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(trace)
    (tmp_path / "way").symlink_to(folder)
    for name in ("x.parquet", "hard", "soft", "../" + tmp_path.name + "/x.parquet"):
        with pytest.raises(InputError, match="is an input; allowed: another output, --force or not"):
            write(tmp_path / name, inputs=[None, trace], force=force)
    for name in ("parts/part-0.parquet", "parts/new", "way/new"):
        with pytest.raises(InputError, match="which is an input"):
            write(tmp_path / name, inputs=[folder], force=force)
    for name in ("parts", "way"):
        with pytest.raises(InputError, match="is an input"):
            check_place(tmp_path / name, [folder], folder=True)
    # a file beside the output that is an input
    beside = tmp_path / "y.json"
    beside.write_text("an input")
    with pytest.raises(InputError, match="is an input"):
        write_both(tmp_path / "y.csv", [beside], force)
    assert (trace.read_text(), beside.read_text()) == ("a trace", "an input")


def test_places_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "round").symlink_to(tmp_path / "round")
    for path, folder, reason in [
        ("folder", False, "is a folder, allowed a file to write"),
        ("file", True, "is a file, allowed a folder to write in"),
        ("file/x", False, "is a file, allowed a folder to write in"),
        ("file/x", True, "is a file, allowed a folder to write in"),
        ("round", False, "links go round in a circle"),
    ]:
        with pytest.raises(InputError, match=reason):
            check_place(tmp_path / path, folder=folder)


@pytest.mark.parametrize("force", [False, True])
def test_devices_and_pipes_are_no_outputs(tmp_path, force):
    """To replace one by a file would break the machine."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a device or a pipe"):
        write(tmp_path / "pipe", force=force)
    assert not (tmp_path / "pipe").is_file()


def test_a_measurement_is_left_where_the_same_command_made_it_of_the_same_files(tmp_path, command, capsys):
    out, source = tmp_path / "x.csv", tmp_path / "model.pt"
    source.write_text("weights")

    def measure(text, force=False):
        if not is_made(out, [source, None], force):
            with staged(out, [source], force) as written:
                written.write_text(text)
                write_json(written.with_suffix(".json"), {"provenance": provenance()})

    measure("1 ms")
    measure("2 ms")
    assert out.read_text() == "1 ms"
    assert capsys.readouterr().out == (
        f"{out}: is there already, made by this command from these inputs; --force makes it anew\n"
    )
    command("make", "x", "--jobs", "3", "--force")  # neither says what is made
    measure("2 ms", force=True)
    assert out.read_text() == "2 ms"
    assert json.loads((tmp_path / "x.json").read_text())["provenance"]["command"] == "python -m traces make x --jobs 3"
    source.write_text("other weights")
    with pytest.raises(InputError, match="made by this command from other inputs"):
        measure("3 ms")
    source.write_text("weights")
    note_inputs({})
    command("make", "x", "--policy", "lru")
    measure("2 ms", force=True)
    command("make", "x", "--cache", "lru")  # today's name of the same option
    measure("3 ms")
    assert out.read_text() == "2 ms"
    command("make", "y")
    with pytest.raises(InputError, match="made by `python -m traces make x --policy lru`"):
        measure("3 ms")
    (tmp_path / "x.json").unlink()
    with pytest.raises(InputError, match="does not say how it was made"):
        measure("3 ms")


def test_inputs_of_one_name_are_two(tmp_path):
    """One of two inputs changes: what was measured of both is of other inputs then, whichever it is."""
    out, inputs = tmp_path / "x.csv", [tmp_path / "a" / "model.pt", tmp_path / "b" / "model.pt"]
    for path in inputs:
        path.parent.mkdir()
        path.write_text("weights")

    def measure():
        if not is_made(out, inputs, False):
            with staged(out, inputs) as written:
                written.write_text("1 ms")
                write_json(written.with_suffix(".json"), {"provenance": provenance()})

    for path in inputs:
        measure()
        assert set(provenance_of(out)["inputs"]) == {"a/model.pt", "b/model.pt"}
        path.write_text("other weights")
        with pytest.raises(InputError, match="made by this command from other inputs"):
            measure()
        path.write_text("weights")


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1 and no more than that", b"\xff\xfe", b"[]", b'{"provenance": 3}']
)
def test_foreign_files_state_no_provenance(tmp_path, content):
    for name in ("x", "x.json", "x.parquet"):
        (tmp_path / name).write_bytes(content)
        assert provenance_of(tmp_path / name) == {}
