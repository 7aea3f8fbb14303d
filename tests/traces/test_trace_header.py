"""The header says what it must, and refuses what cannot be, in one line."""

import json
from dataclasses import replace

import pytest
from tiny_traces import tiny_header

from moe_replay.traces.errors import InputError
from moe_replay.traces.header import Header


def test_a_header_survives_json():
    header = tiny_header(notes={"a": [1, {"b": None}]}, provenance={"seed": 3})
    assert Header.from_json(json.loads(json.dumps(header.to_json()))) == header


def test_notes_are_a_copy():
    notes = {"a": [1]}
    header = tiny_header(notes=notes)
    notes["a"].append(2)
    assert header.notes == {"a": [1]}


def changed(path, value):
    """The tiny header as JSON with one entry changed, or taken out (value is `...`)."""
    content = tiny_header().to_json()
    at = content
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["ranked"], ..., "header: key 'ranked' is missing"),
        (["model", "d_ff"], ..., "header: model: key 'd_ff' is missing"),
        (["data", "digest"], ..., "header: data: key 'digest' is missing"),
        (
            ["rank"],
            1,
            "header: unknown key 'rank'; known: model, gate_rule, score_kind, ranked, data, device, "
            "provenance, notes, schema, chosen_first",
        ),
        (
            ["model", "E"],
            1,
            "header: model: unknown key 'E'; known: name, experts, used_k, layer_ids, shared_experts, "
            "d_model, d_ff, expert_bytes, dtype, zero_experts",
        ),
        (["schema"], 2, "header: schema is 2, allowed whole numbers 1..1"),
        (["model", "experts"], 0, "header: model.experts is 0, allowed whole numbers 1..32767"),
        (["model", "experts"], 4.0, "header: model.experts is 4.0, allowed whole numbers 1..32767"),
        (["model", "used_k"], 5, "header: model.used_k is 5, allowed whole numbers 1..4"),
        (["model", "used_k"], True, "header: model.used_k is True, allowed whole numbers 1..4"),
        (["model", "layer_ids"], [3, 3], "header: model.layer_ids has 3 after 3, allowed ascending numbers"),
        (["model", "layer_ids"], [], "header: model.layer_ids is [], allowed ascending whole numbers >= 0"),
        (["model", "d_model"], 0, "header: model.d_model is 0, allowed whole numbers >= 1"),
        (["model", "name"], "", "header: model.name is '', allowed a non-empty string"),
        (
            ["score_kind"],
            "softmin",
            "header: score_kind is 'softmin', allowed softmax, sigmoid, logit, selected or null",
        ),
        (["ranked"], 1, "header: ranked is 1, allowed true or false"),
        (["data"], [], "header: data is a list, allowed an object"),
        (["data", "digest"], 7, "header: data.digest is 7, allowed a non-empty string"),
        (["gate_rule"], None, "header: gate_rule is None, allowed a non-empty string"),
        (
            ["model"],
            4,
            "header: model: is int, allowed an object with name, experts, used_k, layer_ids, "
            "shared_experts, d_model, d_ff, expert_bytes, dtype, zero_experts",
        ),
    ],
)
def test_what_is_wrong_is_said(path, value, message):
    with pytest.raises(InputError) as error:
        Header.from_json(changed(path, value))
    assert str(error.value) == message


def test_only_what_json_holds_can_be_noted():
    with pytest.raises(InputError, match="notes cannot be written as JSON"):
        tiny_header(notes={"when": object()})
    with pytest.raises(InputError, match="notes cannot be written as JSON"):
        tiny_header(notes={"ratio": float("nan")})


def test_sizes_a_source_does_not_tell_may_be_unknown():
    model = replace(tiny_header().model, d_model=None, d_ff=None, expert_bytes=None, dtype=None)
    assert Header.from_json(tiny_header(model=model).to_json()).model == model
