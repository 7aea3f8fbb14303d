"""How an output was made: the command without a machine's folders, and nothing that changes from run to run."""

import pytest

from moe_replay.traces.command_line.command import numbers
from moe_replay.traces.command_line.provenance import provenance, shortened
from moe_replay.traces.errors import InputError, unknown_name


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["python", "-m", "traces", "check", "a.parquet"], "python -m traces check a.parquet"),
        (["x", "/deep/folder/a.parquet"], "x .../a.parquet"),
        (["x", "--out=/deep/folder/a b"], "x '--out=.../a b'"),
        (["x", "--share=0.5", "a=/b"], "x --share=0.5 a=/b"),
    ],
)
def test_folders_of_a_machine_are_left_out(command, text):
    assert shortened(command) == text


def test_provenance_is_the_same_every_time():
    made = provenance(seed=3, command=["x"])
    assert made == provenance(seed=3, command=["x"])
    assert (made["command"], made["seed"]) == ("x", 3)
    assert {"numpy", "pyarrow"} <= made["packages"].keys()
    assert set(made) == {"command", "seed", "python", "packages", "source_revision"}


def test_errors_are_one_printable_line():
    assert str(InputError("a\n b\x1b[0m\u2028c")) == "a b?[0m c"
    assert str(unknown_name("policy", "lur", {"lru": 1, "fifo": 2})) == "unknown policy 'lur'; known: fifo, lru"


def test_numbers_of_an_option():
    assert numbers("1,2,8", "--queue-size") == [1, 2, 8]
    assert numbers("0.3,0.6", "--load", low=0, kind=float) == [0.3, 0.6]
    for text, says in (
        ("1,x", "'x' is no int; allowed: numbers >= 1"),
        ("0", "0 is not allowed; allowed: numbers >= 1"),
    ):
        with pytest.raises(InputError, match=f"--queue-size: {says}"):
            numbers(text, "--queue-size")
    with pytest.raises(InputError, match="nan is not allowed"):
        numbers("nan", "--load", kind=float)
