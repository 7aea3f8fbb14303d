"""Small tables in the form that `python -m analysis` writes them, made without it: figures read files only."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from browser import opened
from delta_k_tables import delta_k_tables
from layer_tables import layer_tables
from locality_tables import locality_tables
from memory_tables import memory_tables
from placing_tables import exchange_tables, placement_numbers, placing_tables, skew_numbers, skew_tables, timed_tables
from step_tables import step_tables
from swapping_tables import swapping_tables
from vision_tables import vision_tables
from watched_tables import WatchedFrame, table_columns

SETS = ("cpu-toy/cifar10", "cpu-toy/digits")
SIZES = (1, 2, 4, 8, 16)


def queue_rows():
    for name in SETS:
        for source in ("executed", "simulated", "theory"):
            fixed = {"set": name, "source": source, "scheduler": "queues", "departures": "", "reason": ""}
            for size in SIZES:
                for count in (8, 64):
                    rate = 100 * size / (1 + size / 8)
                    yield fixed | {
                        "arrivals": "closed", "setting": f"N={count}", "in_flight": count, "queue_size": size,
                        "status": "ok", "replications": 3,
                        "throughput_per_s_least": rate * 0.95, "throughput_per_s_most": rate * 1.05,
                        "throughput_per_s": rate, "throughput_per_s_low": rate * 0.9,
                        "throughput_per_s_high": rate * 1.1,
                        "forced_batches": 0.5 if size > count // 8 else 0,
                    }  # fmt: skip
                for load in (0.3, 0.9):
                    ok = size >= 4
                    names = [
                        f"latency_{p}_ms{end}"
                        for p in ("p50", "p95")
                        for end in ("", "_low", "_high", "_least", "_most")
                    ]
                    latency = dict.fromkeys(names, size * 5.0 if ok else np.nan)
                    yield fixed | {
                        "arrivals": "poisson", "setting": f"load {load:.2f}", "load": load, "queue_size": size,
                        "status": "ok" if ok else "unstable", "throughput_per_s": 100 * load,
                        **latency,
                    }  # fmt: skip
        yield {
            "set": name, "source": "executed", "scheduler": "lockstep", "departures": "", "arrivals": "closed",
            "setting": "N=64", "in_flight": 64, "max_step": 64, "throughput_per_s": 300, "status": "ok", "reason": "",
        }  # fmt: skip


def tradeoff_rows():
    return [
        {"set": name, "source": source, "load": load, "queue_size": size, "latency_p50_ms": size * 5,
         "latency_p50_ms_low": size * 4, "latency_p50_ms_high": size * 6, "status": "ok",
         "saturated_throughput_per_s": size * 70}
        for name in SETS for source in ("executed", "simulated", "theory") for load in (0.3, 0.9) for size in SIZES
    ]  # fmt: skip


def accuracy_tables():
    views = [("trained at k", np.nan, 8), ("evaluated at k", 4.0, 16)]
    means, seeds, fits = [], [], []
    for name in SETS:
        for view, trained_k, most in views:
            for k in range(1, most + 1):
                value = 50 + 2 * min(k, 4)
                common = {"set": name, "view": view, "trained_k": trained_k, "k": k}
                means.append(common | {
                    "accuracy_percent": value, "accuracy_percent_low": value - 1, "accuracy_percent_high": value + 1,
                    "line_percent": 51 + k, "status": "ok", "reason": "",
                })  # fmt: skip
                seeds += [common | {"seed": seed, "accuracy_percent": value + seed - 1} for seed in range(3)]
            fits.append({
                "set": name, "view": view, "trained_k": trained_k, "p": 0.0001, "share_by_line": 0.6, "df_lack": 6,
                "df_error": 14, "lack_of_fit_F": 30.1, "enough_k": 4, "status": "ok", "reason": "",
            })  # fmt: skip
    return {"accuracy_vs_k": means, "accuracy_vs_k_seeds": seeds, "accuracy_vs_k_fit": fits}


def load_tables():
    rows, places = [], []
    for name in SETS:
        for k in range(1, 9):
            for layer in ("0", "1", "all"):
                rows.append({
                    "set": name, "k": k, "layer": layer, "cv": 0.5 / k, "uniform_cv": 0.1 / k, "used_k": 4,
                    "samples_per_step": 8 * k, "least_per_step": 4 * k, "most_per_step": 12 * k,
                    "status": "ok", "reason": "",
                })  # fmt: skip
            places += [{"set": name, "k": k, "place": place, "over_mean": 2 - place / 4} for place in range(1, 9)]
    return {"load_vs_k": rows, "load_vs_k_places": places}


def fidelity_tables():
    rows, errors = [], {}
    for number, (name, mode, size) in enumerate((n, m, s) for n in SETS for m in ("closed", "poisson") for s in SIZES):
        row = {
            "set": name,
            "scheduler": "queues",
            "arrivals": mode,
            "queue_size": size,
            "run": str(number),
            "status": "ok",
            "reason": "",
        }
        for metric in ("throughput", "latency_p50", "latency_p95"):
            row |= {
                f"executed_{metric}": 100 + number,
                f"simulated_{metric}": 104 + number,
                f"{metric}_error_percent": 4.0,
            }
            errors |= {f"{metric}_{kind}_percent": 4.0 for kind in ("bias", "median", "worst")}
        rows.append(row)
    return {
        "fidelity": rows,
        "fidelity_summary": [{"set": "all", "arrivals": "all", "status": "ok", "reason": "", **errors}],
    }


def serving_rows():
    return [
        {"set": name, "point": f"p{k}{dynamic}", "rule": "", "dynamic": dynamic, "mean_k": k,
         "accuracy_percent": 50 + k,
         "source": source, "arrivals": mode, "setting": setting, "queue_size": 32, "status": "ok", "reason": "",
         **{f"{value}{end}": 900 / k for end in ("", "_low", "_high")
            for value in ("throughput_per_s", "latency_p50_ms", "latency_p95_ms")}}
        for name in SETS for source in ("executed", "simulated") for dynamic, k in ((False, 1), (False, 4), (True, 2.1))
        for mode, setting in (("closed", "N=64"), ("poisson", "load 0.60"))
    ]  # fmt: skip


@pytest.fixture
def tables(tmp_path):
    """Return a folder of whole tables, with claims; every table has the columns that analysis gives it, no others."""
    folder = tmp_path / "tables"
    folder.mkdir()
    made = {"queue_size": list(queue_rows()), "queue_size_tradeoff": tradeoff_rows()}
    made |= accuracy_tables() | load_tables() | fidelity_tables() | delta_k_tables(SETS) | vision_tables(SETS)
    made |= memory_tables(SETS) | locality_tables(SETS[0]) | {"delta_k_serving": serving_rows()}
    made |= swapping_tables(SETS[0]) | layer_tables(SETS) | step_tables(SETS) | placing_tables(SETS)
    made |= exchange_tables("cpu-toy/cluster") | timed_tables(SETS[0]) | skew_tables(SETS[0])
    for name, rows in made.items():
        given, real = pd.DataFrame(rows), table_columns()[name]
        assert not set(given) - set(real), f"no columns of {name}: {sorted(set(given) - set(real))}"
        given.reindex(columns=real).to_csv(folder / f"{name}.csv", index=False)
    figures = (
        "accuracy_vs_k", "delta_k", "delta_k_serving", "load_vs_k", "locality", "queue_size", "fidelity",
        "random_routing",
        "gating_memory", "miss_ratio", "swap_tradeoff", "swap_budget", "skip_exchange", "layer_costs", "links",
        "peak_memory", "balance", "placement", "all_to_all", "end_to_end", "skew",
    )  # fmt: skip
    claims = {
        name: {"claim": f"What {name} shows.", "numbers": {"cpu": {"gain": 1.23456, "k": {"4": 2}}}} for name in figures
    }
    claims["placement"]["numbers"] = placement_numbers(SETS[0])
    claims["skew"]["numbers"] = skew_numbers()
    (folder / "claims.json").write_text(json.dumps(claims))
    return folder


@pytest.fixture
def lacking():
    """Return the set of the columns that watched tables will have been asked for in vain."""
    WatchedFrame.lacking.clear()
    return WatchedFrame.lacking


@pytest.fixture(autouse=True)
def closed_figures():
    """Close what a test has drawn: pyplot keeps every figure."""
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def browser():
    """Return a headless browser for all tests of pages; they are skipped where there is none."""
    with opened() as opened_browser:
        yield opened_browser


@pytest.fixture
def page(browser):
    """Return the browser's page, to be opened by the test."""
    return browser
