"""How far a machine agrees with itself: the same configuration executed again, beside how far the simulator is off.

Replications of a closed loop run the same number of batches of the same sizes; only the order of samples differs. What
their throughput varies by is the machine (a shared host, clocks, caches), not the workload, and no cost table can
predict it. The error of the mean over replications is what is left of the simulator's error once that averages out.
"""

import pandas as pd


def repeatability(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per configuration of the fidelity table that was executed at least twice.

    `executed_cv_percent` and `simulated_cv_percent`: standard deviation over mean of throughput over replications;
    `mean_error_percent`: simulated against executed, both averaged over replications.
    """
    if "throughput_error_percent" not in table:
        return pd.DataFrame([{"set": "all", "status": "missing", "reason": "no run was both executed and simulated"}])
    compared = table[table["status"] == "ok"].fillna({"queue_size": 0, "departures": ""})
    keys = ["set", "scheduler", "arrivals", "setting", "queue_size", "departures"]
    rows = []
    for key, group in compared.groupby(keys, sort=True):
        executed, simulated = group["executed_throughput"], group["simulated_throughput"]
        if len(group) > 1:
            rows.append({
                **dict(zip(keys, key, strict=True)), "replications": len(group),
                "executed_throughput": executed.mean(), "executed_cv_percent": 100 * executed.std() / executed.mean(),
                "simulated_cv_percent": 100 * simulated.std() / simulated.mean(),
                "mean_error_percent": 100 * (simulated.mean() / executed.mean() - 1),
                "status": "ok", "reason": "",
            })  # fmt: skip
    return pd.DataFrame(rows or [{"set": "all", "status": "skipped", "reason": "no configuration was executed twice"}])


def own_percent(table: pd.DataFrame) -> float:
    """Return what a machine's throughput differs by when it runs a closed loop again; NaN where that was never tried.

    It is the median over configurations of the standard deviation over replications, in percent of the mean.
    """
    if "arrivals" not in table:
        return float("nan")
    return float(table["executed_cv_percent"][(table["status"] == "ok") & (table["arrivals"] == "closed")].median())


def repeatability_sentence(table: pd.DataFrame) -> str:
    """Return what closed loops say about the machine, in words; empty where nothing was executed twice."""
    if "arrivals" not in table:
        return ""
    closed = table[(table["status"] == "ok") & (table["arrivals"] == "closed")]
    if closed.empty:
        return ""
    error, own = closed["mean_error_percent"].abs(), closed["executed_cv_percent"]
    return (
        f" The machine itself repeats the throughput of a closed loop to {own_percent(table):.1f} % (median standard "
        f"deviation over replications, at most {own.max():.1f} %; simulated "
        f"{closed['simulated_cv_percent'].median():.2f} %); averaged over replications the simulator is off by "
        f"{error.median():.1f} % (worst {error.max():.1f} %)."
    )
