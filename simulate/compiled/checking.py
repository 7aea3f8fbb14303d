"""The checked form of compiled code: an access beyond an array's bounds ends the run instead of going elsewhere.

A function that is given a marked record (`bounds`) is compiled in this form: the arrays that the record points at are
held to their bounds in every dimension, and a negative index is not counted from the end, which numba's own check
would do. Nothing changes for other records.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import (
    intrinsic,
    make_attribute_wrapper,
    models,
    overload,
    overload_attribute,
    register_jitable,
    register_model,
)

from moe_replay.simulate.compiled.bounds import MARK


class HeldArray(types.Type):
    """An array by name, held to its bounds; so are its parts."""

    def __init__(self, plain: types.Array, called: str) -> None:
        self.plain, self.called = plain, called
        super().__init__(f"held({called}, {plain})")


@register_model(HeldArray)
class HeldModel(models.StructModel):
    """What a held array is in memory: the array."""

    def __init__(self, manager: object, held: HeldArray) -> None:
        super().__init__(manager, held, [("plain", held.plain)])


make_attribute_wrapper(HeldArray, "plain", "plain")


def held_as(called: str) -> Callable:
    """Return the function of compiled code that gives an array back as it is to be used: by its name, with its owner.

    That is the array itself if its owner is a record that is not marked, else the array held to its bounds.
    """

    def held(context, owner, array):  # noqa: ANN001, ANN202
        if isinstance(owner, types.Record) and MARK not in owner.fields:
            return array(owner, array), lambda context, builder, signature, arguments: arguments[1]
        made = HeldArray(array, called)

        def codegen(context, builder, signature, arguments):  # noqa: ANN001, ANN202
            return builder.insert_value(ir.Constant(context.get_value_type(made), ir.Undefined), arguments[1], 0)

        return made(owner, array), codegen

    return intrinsic(held)


def holding(called: str, index: types.Type) -> Callable:
    """Return the function of compiled code that raises IndexError(name, index, length) for one beyond its length.

    It takes the lengths and an index of this type: a number or several, of which fewer than there are dimensions give a
    part of the array.
    """
    if not all(isinstance(each, types.Integer) for each in getattr(index, "types", (index,))):
        raise NotImplementedError(f"{called} is looked up by {index}: only numbers are checked")

    @register_jitable
    def hold(lengths: tuple[int, ...], dimension: int, index: int) -> None:
        if not 0 <= index < lengths[dimension]:
            raise IndexError(called, index, lengths[dimension])

    def hold_one(lengths: tuple[int, ...], index: int) -> None:
        hold(lengths, 0, np.int64(index))

    def hold_two(lengths: tuple[int, ...], index: tuple[int, ...]) -> None:
        hold(lengths, 0, np.int64(index[0]))
        hold(lengths, 1, np.int64(index[1]))

    def hold_three(lengths: tuple[int, ...], index: tuple[int, ...]) -> None:
        hold(lengths, 0, np.int64(index[0]))
        hold(lengths, 1, np.int64(index[1]))
        hold(lengths, 2, np.int64(index[2]))

    return register_jitable((hold_one, hold_two, hold_three)[len(getattr(index, "types", (index,))) - 1])


@overload(operator.getitem)
def get_held(held, index):  # noqa: ANN001, ANN201
    """Look up an element or a part."""
    if not isinstance(held, HeldArray):
        return None
    hold, part_of = holding(held.called, index), held_as(held.called)

    def element(held, index):  # noqa: ANN001, ANN202
        hold(held.plain.shape, index)
        return held.plain[index]

    def part(held, index):  # noqa: ANN001, ANN202
        hold(held.plain.shape, index)
        return part_of(held, held.plain[index])

    return element if len(getattr(index, "types", (index,))) == held.plain.ndim else part


@overload(operator.setitem)
def set_held(held, index, value):  # noqa: ANN001, ANN201
    """Set an element."""
    if not isinstance(held, HeldArray):
        return None
    hold = holding(held.called, index)

    def set_element(held, index, value):  # noqa: ANN001, ANN202
        hold(held.plain.shape, index)
        held.plain[index] = value

    return set_element


@overload(len)
def length_of_held(held):  # noqa: ANN001, ANN201
    """Return how many places the first dimension has."""
    return (lambda held: len(held.plain)) if isinstance(held, HeldArray) else None


@overload_attribute(HeldArray, "shape")
def shape_of_held(held):  # noqa: ANN001, ANN201
    """Return how many places every dimension has."""
    return lambda held: held.plain.shape
