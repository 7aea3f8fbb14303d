"""A placement's file as the placement of a run."""

import numpy as np
import pytest

from moe_replay.simulate.policies.placement import check_layers, place, placement_name
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.expert_placement import ExpertPlacement, save_placement


@pytest.fixture
def saved(tmp_path):
    def save(expert_LP, devices=2, name="mine.placement.json", nodes=1):
        table = np.array(expert_LP, np.int16)
        held = ExpertPlacement(
            model="m", experts=4, devices=devices, layer_ids=(1, 3), expert_LP=table, nodes=nodes
        )  # fmt: skip
        save_placement(held, tmp_path / name, {})
        return str(tmp_path / name)

    return save


def test_a_file_is_a_placement_of_its_own_name(saved):
    name = placement_name(saved([[0, 3, 1, 2], [2, 1, 0, 3]]))
    assert name.startswith("file_mine_")
    device_LB = place(name, 2, 4, 2)
    assert device_LB[:2, 1:].tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]
    assert (device_LB[:, 0] == place("contiguous", 2, 4, 2)[:, 0]).all()
    assert placement_name("contiguous") == "contiguous"


def test_another_content_has_another_name(saved):
    first = placement_name(saved([[0, 3, 1, 2], [2, 1, 0, 3]]))
    assert placement_name(saved([[0, 1, 3, 2], [2, 1, 0, 3]])) != first


def test_empty_slots_are_nobodys(saved):
    name = placement_name(saved([[0, 3, 1, 2, -1, -1], [2, -1, 0, 3, 1, -1]], devices=3))
    assert place(name, 2, 4, 3)[:2, 1:].tolist() == [[0, 1, 1, 0], [1, 2, 0, 1]]


def test_replicas_are_refused_in_one_line_without_links(saved):
    name = placement_name(saved([[0, 1, 2, 3, 0, -1], [0, 1, 2, 3, 1, -1]]))
    with pytest.raises(InputError, match="2 replicas, allowed none: runs without --links"):
        place(name, 2, 4, 2)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((3, 4, 2), "2 MoE layers, allowed 3"),
        ((2, 5, 2), "4 experts, allowed 5"),
        ((2, 4, 4), "2 devices, allowed 4"),
    ],
)
def test_a_file_of_another_shape_is_refused(saved, sizes, said):
    name = placement_name(saved([[0, 1, 2, 3], [0, 1, 2, 3]]))
    with pytest.raises(InputError, match=said):
        place(name, *sizes)


def test_a_missing_file_and_nodes_that_do_not_fit_are_refused(saved, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        placement_name(str(tmp_path / "other.json"))
    with pytest.raises(InputError, match="4 devices in 3 nodes"):
        saved([[0, 1, 2, 3], [0, 1, 2, 3]], devices=4, nodes=3)


def test_layers_of_another_part_of_the_model_are_refused(saved):
    name = placement_name(saved([[0, 1, 2, 3], [0, 1, 2, 3]]))
    check_layers(name, (1, 3))
    check_layers("contiguous", (1, 2))
    with pytest.raises(InputError, match=r"a placement of layers \[1, 3\], allowed \[1, 2\] as recorded"):
        check_layers(name, (1, 2))
