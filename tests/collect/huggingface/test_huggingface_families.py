"""Families with routers of a form of their own, held against what their experts were given; and the table of all."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the collector for Hugging Face models needs transformers")

import family_table
from experts_oracle import Given
from family_table import COLUMNS, PLACES, PROBES, PROMPTS, families, recorded, same, written
from moe_families import built
from tiny_models import model_types, tiny_model

from moe_replay.collect.huggingface.collector import record_prompts
from moe_replay.collect.huggingface.generation import Plan
from moe_replay.collect.huggingface.model_loading import load_model, set_otherwise
from moe_replay.collect.huggingface.prompts import Prompt
from moe_replay.collect.huggingface.ran_experts import RanExperts
from moe_replay.collect.huggingface.routers import find_routers
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.routes import weightless_text

PLAIN = Plan(1, 3)
OTHER_VERSION = "the table is of another transformers: python tests/collect/huggingface/family_table.py --write"


def test_the_table_has_a_row_for_every_model_type_that_is_installed():
    import transformers

    head, _, columns, _, *rows, _, without = written()
    if f"transformers {transformers.__version__}:" not in head:
        pytest.skip(OTHER_VERSION)
    assert columns == f"| {' | '.join(COLUMNS)} |"
    assert all(row.count("|") == len(COLUMNS) + 1 for row in rows)
    assert {row.split("`")[1] for row in rows} == set(model_types())
    kept = sum("not recorded" not in row for row in rows)
    assert head.endswith(f"{len(model_types())} model types, {kept} of {len(rows)} rows recorded.")
    named = {family_table.module_of(row.split("`")[1]) for row in rows}
    assert without.removeprefix("Without a class that generates text: ").removesuffix(".").split(", ") == sorted(
        family_table.declaring() - named
    )


@pytest.mark.parametrize(
    "model_type",
    [
        "dbrx",
        "jetmoe",
        "zaya",
        "inkling_text",
        "ernie4_5_vl_moe",
        "nllb-moe",
        "doge",
        "switch_transformers",
        "llama4_text",
    ],
)
def test_a_row_is_what_the_script_finds(model_type):
    """Every selection is compared on the way with what the experts' modules were called with."""
    import transformers

    if f"transformers {transformers.__version__}:" not in written()[0]:
        pytest.skip(OTHER_VERSION)
    rows = sorted(row.line for row in families(model_type))
    assert rows == sorted(row for row in written() if row.startswith(f"| `{model_type}`")) != []


def test_the_oracle_tells_a_wrong_trace_from_a_right_one():
    model = tiny_model("mixtral")
    with Given(model) as given:
        trace = recorded(model, PLAIN)
    ran = given.tokens(PLACES[None], PROBES)
    assert same(trace, ran) == trace.T * trace.L * 2
    other = trace.experts_TLK[:, :, [0, 2, 1, *range(3, 8)]].copy()
    with pytest.raises(AssertionError):
        same(replace(trace, header=replace(trace.header, ranked=False), experts_TLK=other), ran)


def test_experts_of_attention_are_recorded_on_request_and_never_mixed_with_others():
    model = tiny_model("jetmoe")
    mlp, attention = (recorded(model, replace(PLAIN, part=part)) for part in ("mlp", "attention"))
    default = recorded(model, PLAIN)
    assert default.digest == mlp.digest != attention.digest
    assert [each.header.notes["part"] for each in (default, mlp, attention)] == ["mlp", "mlp", "attention"]
    assert mlp.header.model.expert_bytes == 4 * (32 * 48 + 24 * 32)
    assert attention.header.model.expert_bytes == 4 * 2 * 32 * model.config.kv_channels * 4
    with pytest.raises(InputError, match="--part mlp: attention and MLPs do not both have experts here"):
        recorded(built("mixtral"), replace(PLAIN, part="mlp"))
    with pytest.raises(InputError, match="--part encoder: the model has one part only"):
        recorded(model, replace(PLAIN, part="encoder"))


def test_the_expert_that_skips_has_no_weights_and_expert_0_is_not_recorded_for_it():
    trace = recorded(tiny_model("zaya"), replace(PLAIN, candidates="all"))
    assert (trace.header.model.experts, trace.header.model.zero_experts, trace.E, trace.K) == (9, 1, 8, 9)
    assert (trace.experts_TLK[:, :, 0] == 8).any()
    assert (trace.experts_TLK[:, :, 0] != 8).any()
    assert "are of experts without weights (8..8)" in weightless_text(trace)
    assert trace.scores_TLK.sum(2) == pytest.approx(1, abs=1e-3)


def test_shared_experts_of_a_router_that_weighs_them_too_are_counted_apart():
    trace = recorded(tiny_model("inkling_text"), PLAIN)
    assert (trace.header.model.shared_experts, trace.header.model.experts, trace.header.score_kind) == (2, 8, "sigmoid")


def chosen_by_gates(experts, hidden, mask, gates):
    """What NLLB-MoE's experts are for: each runs the tokens whose gate for it is not 0."""
    result = torch.zeros_like(hidden)
    for number in range(experts.num_experts):
        rows = torch.where(gates[:, number] != 0)[0]
        if len(rows):
            result.index_add_(0, rows, experts[f"expert_{number}"](hidden[rows]) * gates[rows, number, None])
    return result


@pytest.fixture
def mended(monkeypatch):
    """NLLB-MoE in a version whose experts run what its routers choose, with settings of its routers."""
    from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeExperts

    monkeypatch.setattr(NllbMoeExperts, "forward", chosen_by_gates)

    def model(**settings):
        made = tiny_model("nllb-moe")
        for module in made.modules():
            if type(module).__name__ == "NllbMoeTop2Router":
                for name, value in settings.items():
                    setattr(module, name, value)
        return made

    return model


@pytest.mark.parametrize(
    ("settings", "fewest", "most"),
    [
        ({}, 2, 2),
        ({"second_expert_policy": "random"}, 1, 2),
        ({"moe_eval_capacity_token_fraction": 0.2}, 0, 2),
    ],
    ids=["all", "random", "capacity"],
)
def test_two_gates_are_recorded_as_they_are_after_capacity_and_draws(mended, settings, fewest, most):
    model, plan = mended(**settings), replace(PLAIN, part="encoder")
    with Given(model) as given:
        trace = recorded(model, plan)
    ran = given.tokens(PLACES["encoder"], PROBES)
    assert same(trace, ran)
    numbers = [len(token) for tokens in ran.values() for token in tokens]
    assert (min(numbers), max(numbers)) == (fewest, most)
    assert (trace.header.model.used_k, trace.header.ranked) == (2, False)
    with pytest.raises(InputError, match="--candidates all: experts have a capacity"):
        recorded(model, replace(plan, candidates="all"))


def test_what_depends_on_a_batch_or_on_noise_is_refused(mended, tmp_path):
    data, out = tmp_path / "p.jsonl", tmp_path / "x.trace.parquet"
    data.write_text("{}")
    for settings, message in (
        ({"second_expert_policy": "sampling"}, "second_expert_policy sampling puts noise on the logits"),
        ({"second_expert_policy": "random"}, "depends on the other prompts of its batch: allowed: --batch 1"),
        ({"moe_eval_capacity_token_fraction": 0.4}, "depends on the other prompts of its batch: allowed: --batch 1"),
    ):
        with pytest.raises(InputError, match=message):
            record_prompts(mended(**settings), "m", PROMPTS, data, Plan(8, 0, part="encoder"), out)
    record_prompts(mended(), "m", PROMPTS, data, Plan(8, 0, part="encoder"), out)
    alone = recorded(mended(), Plan(1, 0, part="encoder"))
    np.testing.assert_array_equal(load_trace(out).experts_TLK, alone.experts_TLK)


def test_experts_that_run_for_other_tokens_than_chosen_are_refused(tmp_path):
    message = r"expert 0 ran \d+ tokens but was chosen for \d+: transformers .* runs other experts of NllbMoeSparseMLP"
    with pytest.raises(InputError, match=message):
        recorded(tiny_model("nllb-moe"), replace(PLAIN, part="encoder"))
    routers = find_routers(tiny_model("switch_transformers"), "encoder")
    watch = RanExperts(routers)
    assert len(watch.handles) == len(routers) * (1 + 8)
    for handle in watch.handles:
        handle.remove()


def test_probabilities_that_rounding_makes_alike_are_ranked_as_the_router_ranks_them(tmp_path):
    """DBRX takes its softmax in bfloat16: of 64 experts some tie there whose logits do not."""
    model = tiny_model("dbrx", ffn_config={"moe_num_experts": 64})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)
    model = model.to(torch.bfloat16)
    data, out = tmp_path / "p.jsonl", tmp_path / "x.trace.parquet"
    data.write_text("{}")
    with Given(model) as given:
        record_prompts(model, "m", [Prompt(tuple(range(3, 60)))], data, Plan(1, 0), out)
    trace = load_trace(out)
    assert same(trace, given.tokens(PLACES[None], PROBES))
    assert (trace.header.ranked, trace.header.score_kind, trace.K) == (True, "softmax", 64)
    assert (trace.scores_TLK[:, :, 1] == trace.scores_TLK[:, :, 2]).any()  # the second is chosen, the third is not


def test_a_router_that_runs_twice_is_refused_by_name():
    with pytest.raises(InputError, match=r"router model\.layers\.1\.mlp\.gate ran 2 times in a forward call"):
        recorded(tiny_model("inkling2_loop_text"), PLAIN)


def test_scores_of_next_to_nothing_do_not_hide_what_kind_they_are():
    """A weight of 1e-37 over a score that was raised to 1e-20 is no ratio."""
    from moe_replay.collect.huggingface.router_forms import Choice
    from moe_replay.collect.huggingface.score_kinds import score_kind

    logits_NE = torch.tensor([[0.0, 85.0], [0.0, 1.0], [2.0, 0.0]])
    experts_NK = torch.tensor([[0], [1], [0]])
    assert score_kind([Choice(logits_NE, logits_NE.softmax(1).gather(1, experts_NK), experts_NK)]) == "softmax"
    assert re.fullmatch("logit", score_kind([Choice(logits_NE, torch.ones(3, 1), experts_NK)]))


def test_prompts_of_several_lengths_beside_each_other_record_as_alone(tmp_path):
    data, out = tmp_path / "p.jsonl", tmp_path / "x.trace.parquet"
    data.write_text("{}")
    prompts = [*PROMPTS, Prompt((30, 31, 32, 33, 34, 35, 36))]
    for model_type in ("dbrx", "jetmoe", "inkling_text"):
        model = tiny_model(model_type)
        found = []
        for batch in (1, 3):
            record_prompts(model, "m", prompts, data, Plan(batch, 3), out)
            trace = load_trace(out)
            order = np.lexsort((trace.position_T, trace.sequence_T))
            found.append(trace.experts_TLK[order][:, :, : trace.header.model.used_k])
        np.testing.assert_array_equal(*found)


def test_the_command_says_once_which_experts_were_left_out(tmp_path):
    tiny_model("jetmoe").save_pretrained(tmp_path / "jetmoe")
    (tmp_path / "p.jsonl").write_text('{"token_ids": [9, 8, 7]}\n')
    words = ["route", "--model", tmp_path / "jetmoe", "--data", tmp_path / "p.jsonl", "--max-new-tokens", 1]
    said = subprocess.run(
        [sys.executable, "-m", "collect", *map(str, words), "--out", str(tmp_path / "x.trace.parquet")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("of the experts of MLPs alone; --part attention records those of attention") == 1


def test_routers_that_loading_changes_are_named(tmp_path):
    """ZAYA's bias of the expert that skips is -1 after loading, whatever the checkpoint has."""
    for model_type, changed in (("zaya", 3), ("deepseek_v3", 0)):
        tiny_model(model_type).save_pretrained(tmp_path / model_type)
        model = load_model(str(tmp_path / model_type), "auto", torch.device("cpu"))
        found = set_otherwise(model, str(tmp_path / model_type))
        assert len(found) == changed, found
        assert all(name.endswith("balancing_biases") for name in found)
    router = find_routers(model)[0].module
    router.e_score_correction_bias[0] += 1
    assert set_otherwise(model, str(tmp_path / "deepseek_v3")) == ["model.layers.1.mlp.gate.e_score_correction_bias"]
