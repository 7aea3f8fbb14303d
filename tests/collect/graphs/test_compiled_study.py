"""The study of compiled iterations: rows of ways that run and of ways that refuse, without compiling anything."""

from moe_replay.collect.studies import compiled_step_study
from moe_replay.collect.studies.compiled_step_study import STUDY, CompiledCase, study_case, with_own_code
from moe_replay.traces.errors import InputError


def test_a_way_that_refuses_keeps_its_row(monkeypatch):
    real = compiled_step_study.step_of

    def step_of(subject, compiled, whole):
        if whole:
            raise InputError("compile_step: draws random numbers")
        return real(subject, False, False)

    monkeypatch.setattr(compiled_step_study, "step_of", step_of)
    ways = {name: way for name, way in compiled_step_study.WAYS.items() if not way[2]}
    monkeypatch.setattr(compiled_step_study, "WAYS", ways)
    told = []
    rows = study_case(CompiledCase("classifier", 16, "layer"), 1, 2, told.append)
    assert told == ["eager", "compiled", "whole step", "times"]
    assert [(row["way"], row["status"]) for row in rows] == [
        ("eager", "ok"),
        ("compiled", "ok"),
        ("whole step", "skipped"),
    ]
    assert rows[0]["step_peak_bytes"] == rows[1]["step_peak_bytes"] > 0  # both are eager here
    assert rows[0]["step_ms"] > 0
    assert (rows[2]["step_peak_bytes"], rows[2]["reason"]) == (None, "compile_step: draws random numbers")
    assert len({tuple(row) for row in rows}) == 1


def test_iterations_come_with_checkpoints_and_without():
    assert {case.checkpoint for case in STUDY.values()} == {"layer", "none"}
    assert all(name.endswith("-ac") == (case.checkpoint == "layer") for name, case in STUDY.items())
    model = STUDY["vit-b64"].subject().model
    assert {block.feed_forward.gate.jitter for block in model.blocks} == {0.0}


def test_a_function_with_code_of_its_own_does_the_same():
    three = 3
    given = lambda x, y=2: x + y + three  # noqa: E731 - a function with a default and a closure
    copied = with_own_code(given)
    assert copied.__code__ is not given.__code__
    assert copied(1) == given(1) == 6
