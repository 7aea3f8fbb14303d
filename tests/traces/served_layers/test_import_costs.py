"""`traces import-costs`: what there is, what is imported, and what is refused in one line."""

import importlib.util
import json

import numpy as np
import pytest
from moe_tables import layer_rows, layer_us, write, write_moe_tables

from moe_replay.traces.served_layers import aiconfigurator
from moe_replay.traces.served_layers.aiconfigurator import (
    chosen_kind,
    gpu_folder,
    kinds_of,
    served_times,
    tables_folder,
)
from moe_replay.traces.served_layers.model_config import layer_sizes
from moe_replay.traces.served_layers.served_times import load_served
from moe_replay.traces.shipped import shipped_served

THERE = "--tables moe --gpu toy_sxm"


@pytest.fixture
def importer(traces, tmp_path):
    """Return the command, in a folder with tables."""
    write_moe_tables(tmp_path / "moe")
    return traces


def test_a_layer_is_imported_with_its_exchange_from_the_newest_version(importer):
    status, said, errors = importer(f"import-costs {THERE} --framework vllm --dtype bfloat16 --out x.served.parquet")
    assert (status, errors) == (0, "")
    assert "64x32-8x2 (vllm 0.24.0, NVIDIA Toy); 1, 2, 4 devices; 1..64 tokens; balanced, power_law_1.2" in said
    assert "Apache-2.0" in said
    found = load_served("x.served.parquet")
    assert found.header["model"] == {
        "name": "64x32-8x2", "width": 64, "hidden": 32, "experts": 8, "k": 2, "dtype": "bfloat16"
    }  # fmt: skip
    assert sorted(found.header["files"]) == [
        "toy_sxm/comm/vllm/0.24.0/moe_a2a_perf.parquet", "toy_sxm/moe/vllm/0.24.0/moe_perf.parquet",
    ]  # fmt: skip
    for devices in (1, 2, 4):
        for tokens in (1, 8, 64):
            balanced = found.layer_ns(devices, "balanced", tokens)
            np.testing.assert_allclose(balanced, 1e3 * layer_us(devices, tokens), atol=1)
            np.testing.assert_allclose(found.layer_ns(devices, "power_law_1.2", tokens), 1.5 * balanced, atol=2)
    # A device's own tokens: straight between 4 and 8, where the kernel for few tokens was not measured.
    assert found.exchange_ns(4, 4) == {"deepep_ht 20 SMs": 48_000, "deepep_ll": 18_000}
    assert found.exchange_ns(4, 6) == {"deepep_ht 20 SMs": 52_000}
    assert found.exchange_ns(2, 4) == {}


def test_without_an_output_what_there_is_is_shown(importer):
    status, said, _ = importer(f"import-costs {THERE} --framework vllm --k 2")
    assert status == 0
    rows = [line.split() for line in said.splitlines() if line.split()[:1] == ["vllm"]]
    assert [row[1] for row in rows] == ["0.24.0", "0.9.0", "0.9.0", "0.3.0"]  # newest first, by number
    assert rows[0][2:] == ["64", "32", "8", "2", "bfloat16", "1", "2", "4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--tables moe", "--gpu: allowed one of toy_pcie, toy_sxm"),
        ("--tables moe --gpu toy", "unknown GPU 'toy'; known: toy_pcie, toy_sxm"),
        ("--tables . --gpu toy_sxm", ".: holds no GPU/moe/FRAMEWORK/VERSION/moe_perf.parquet"),
        (f"{THERE} --framework vlm", "unknown framework 'vlm'; known: sglang, vllm"),
        (
            f"{THERE} --framework vllm --framework-version 9 --out x.parquet",
            "unknown version of vllm '9'; known: 0.24.0, 0.3.0, 0.9.0",
        ),
        (f"{THERE} --experts 9 --out x.parquet", "no layer has experts 9; known: sglang, 64 x 32, 8 experts, k 1"),
        (f"{THERE} --experts 8 --out x.parquet", "3 layers have experts 8; allowed: options that leave one: sglang"),
        (f"{THERE} --k 1 --devices 1,3 --out x.parquet", "unknown number of devices '3'; known: 1, 2, 4"),
        (f"{THERE} --k 1 --kernel other --out x.parquet", "unknown kernel 'other'; known: grouped"),
        (f"{THERE} --k 0 --out x.parquet", "Invalid value for '--k'"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(importer, words, said):
    status, _, errors = importer(f"import-costs {words}")
    assert status == 2
    assert said in errors
    assert len(errors.strip().splitlines()) == 1


CONFIGS = {
    "Toys--Small_config.json": {"hidden_size": 64, "moe_intermediate_size": 32, "num_experts": 8,
                                "num_experts_per_tok": 2, "intermediate_size": 999},
    "Toys--Small_hf_quant_config.json": {"quantization": {}},
    "Toys--Dense_config.json": {"hidden_size": 64, "intermediate_size": 32},
    "inside.json": {"text_config": {"hidden_size": 64, "intermediate_size": 32, "n_routed_experts": 8,
                                    "experts_per_token": 2}, "hidden_size": 7},
}  # fmt: skip


@pytest.fixture
def package(traces, tmp_path):
    """Return the command, in a folder with tables and configs as the package lays them out."""
    write_moe_tables(tmp_path / "systems" / "data")
    (tmp_path / "model_configs").mkdir()
    for name, config in CONFIGS.items():
        (tmp_path / "model_configs" / name).write_text(json.dumps(config))
    return traces


def test_a_model_s_sizes_are_those_of_its_config_by_name_or_file(package):
    line = "import-costs --tables systems/data --gpu toy_sxm --framework vllm --dtype bfloat16"
    for model, name in (("SMALL", "small"), ("model_configs/inside.json", "inside")):
        status, said, errors = package(f"{line} --model {model} --out {name}.served.parquet")
        assert (status, errors) == (0, "")
        assert f"{name} (vllm 0.24.0, NVIDIA Toy)" in said
    for words, wanted in (
        ("--model large", "unknown model 'large'; known: dense, small"),
        ("--model dense", "Toys--Dense_config.json: tells no experts of a MoE layer"),
        ("--model none.json", "none.json: no config"),
        ("--model small --width 65", "--width is 65, and 64 in small; allowed: one of them"),
    ):
        status, _, errors = package(f"{line} {words} --out x.parquet")
        assert status == 2
        assert wanted in errors


def test_without_the_package_the_line_says_which_extra_has_it(importer, monkeypatch):
    monkeypatch.setattr(aiconfigurator, "find_spec", lambda name: None)
    status, _, errors = importer("import-costs --gpu h200")
    assert status == 2
    assert "aiconfigurator-core is not installed: pip install 'moe-replay[costs]'" in errors


def imported(folder, **wanted):
    """Return what is imported from a folder of tables."""
    gpu = gpu_folder(tables_folder(folder), "toy_sxm")
    kind = chosen_kind(kinds_of(gpu, "vllm", None), wanted)
    return served_times(gpu, kind, wanted.get("kernel"), None, "toy")


def test_what_was_measured_twice_is_its_mean_and_is_said(tmp_path, importer):
    place = tmp_path / "moe" / "toy_sxm" / "moe" / "vllm" / "0.24.0"
    write(layer_rows("0.24.0") + layer_rows("0.24.0", slower=3.0), place, "moe_perf.parquet")
    status, said, _ = importer(f"import-costs {THERE} --framework vllm --dtype bfloat16 --out x.parquet")
    assert status == 0
    assert "36 times were measured more than once: their means" in " ".join(said.split())
    np.testing.assert_allclose(load_served("x.parquet").layer_ns(2, "balanced", 4), 2e3 * layer_us(2, 4), atol=1)


def test_two_kernels_are_told_apart_by_a_name(tmp_path, importer):
    place = tmp_path / "moe" / "toy_sxm" / "moe" / "vllm" / "0.24.0"
    write(layer_rows("0.24.0") + layer_rows("0.24.0", kernel="quick", slower=0.5), place, "moe_perf.parquet")
    line = f"import-costs {THERE} --framework vllm --dtype bfloat16 --out x.parquet"
    status, _, errors = importer(line)
    assert status == 2
    assert "measured with several kernels; allowed: --kernel grouped, quick" in errors
    assert importer(f"{line} --kernel quick")[0] == 0
    np.testing.assert_allclose(load_served("x.parquet").layer_ns(2, "balanced", 4), 500 * layer_us(2, 4), atol=1)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (lambda rows: [row | {"latency": 0.0} for row in rows], "latency is 0.0 at 1 tokens, allowed: ms > 0"),
        (lambda rows: [row | {"latency": float("nan")} for row in rows], "latency is nan"),
        (lambda rows: [row for row in rows if row["distribution"] != "balanced"], "nothing balanced on 1 devices"),
        (lambda rows: [{"num_tokens": 1}], "not a table of aiconfigurator-core"),
    ],
)
def test_damaged_and_odd_tables_are_refused(tmp_path, importer, rows, said):
    place = tmp_path / "moe" / "toy_sxm" / "moe" / "vllm" / "0.24.0"
    write(rows(layer_rows("0.24.0")), place, "moe_perf.parquet")
    line = f"import-costs {THERE} --framework vllm --framework-version 0.24.0 --out x.parquet"
    status, _, errors = importer(line)
    assert status == 2
    assert said in errors
    (place / "moe_perf.parquet").write_bytes(b"PAR1 cut short")
    assert "not a table of aiconfigurator-core" in importer(line)[2]


def test_a_table_of_another_kind_is_no_cost_table_and_the_other_way(importer):
    assert importer(f"import-costs {THERE} --k 1 --out x.served.parquet")[0] == 0
    status, _, errors = importer("describe x.served.parquet")
    assert status == 2
    assert "served-times" in errors


needs_package = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed (extra costs)"
)


@needs_package
def test_models_of_the_installed_package_have_their_layers():
    """Published sizes of five models, by name."""
    wanted = {
        "qwen3-30b-a3b": (2048, 768, 128, 8), "gpt-oss-20b": (2880, 2880, 32, 4), "deepseek-v3": (7168, 2048, 256, 8),
        "mixtral-8x7b-v0.1": (4096, 14336, 8, 2), "kimi-k2-instruct": (7168, 2048, 384, 8),
    }  # fmt: skip
    for name, sizes in wanted.items():
        assert tuple(layer_sizes(tables_folder(None), name)[1].values()) == sizes


@needs_package
def test_the_shipped_layers_are_those_of_the_installed_package():
    """Their numbers, as far as both name the same version of the framework."""
    compared = 0
    for path in shipped_served().values():
        shipped = load_served(path)
        framework, version = shipped.header["framework"].split()
        gpu, wanted = gpu_folder(tables_folder(None), "h200"), dict(shipped.header["model"])
        name = wanted.pop("name")
        kinds = [each for each in kinds_of(gpu, framework, None) if each.framework_version == version]
        if not kinds:
            continue  # a newer package
        found = served_times(gpu, chosen_kind(kinds, wanted), None, shipped.devices, name)
        assert found.table.equals(shipped.table)
        compared += 1
    if not compared:
        pytest.skip("the installed package has other versions of the frameworks")


def test_the_shipped_layers_have_the_published_times():
    """Qwen3-30B-A3B in vLLM 0.24.0 on an H200: us of aiconfigurator-core 0.12.0's table, by hand."""
    found = load_served(shipped_served()["nvidia-h200/qwen3-30b-a3b-vllm"])
    wanted = {
        (1, "balanced", 16): 305, (1, "power_law_1.01", 16): 187, (1, "balanced", 16384): 2463,
        (8, "balanced", 2048): 171, (8, "power_law_1.2", 2048): 217, (8, "balanced", 64): 80,
    }  # fmt: skip
    for (devices, spread, tokens), us in wanted.items():
        assert round(found.layer_ns(devices, spread, tokens) / 1e3) == us
    assert "Apache-2.0" in found.header["license"]
    assert "aiconfigurator-core" in found.header["source"]
