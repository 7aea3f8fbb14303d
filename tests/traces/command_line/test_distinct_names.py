"""Files of one name stay apart, by no more of their place than that takes."""

from pathlib import Path

import pytest

from moe_replay.traces.command_line.distinct_names import told_apart


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/toy.csv", "b/other.csv"], ["toy.csv", "other.csv"]),
        (["a/toy.csv", "b/toy.csv", "b/other.csv"], ["a/toy.csv", "b/toy.csv", "other.csv"]),
        (["x/a/toy.csv", "y/a/toy.csv", "y/b/toy.csv"], ["x/a/toy.csv", "y/a/toy.csv", "b/toy.csv"]),
        (["a/toy.csv", "./a/toy.csv", "a/../a/toy.csv"], ["toy.csv"]),
        ([], []),
    ],
)
def test_names_are_as_long_as_they_have_to_be(tmp_path, monkeypatch, paths, names):
    monkeypatch.chdir(tmp_path)
    assert list(told_apart(map(Path, paths))) == names


def test_links_to_one_file_are_one_and_links_in_a_circle_are_left_to_others(tmp_path):
    (tmp_path / "toy.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "toy.csv")
    (tmp_path / "round.csv").symlink_to(tmp_path / "round.csv")
    assert list(told_apart([tmp_path / "link.csv", tmp_path / "toy.csv"])) == ["link.csv"]
    assert list(told_apart([tmp_path / "round.csv"])) == ["round.csv"]
