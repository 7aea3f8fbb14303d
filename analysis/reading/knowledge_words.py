"""Says in words where what the policies of a table know beforehand comes from."""

import pandas as pd


def said_of_knowledge(rows: pd.DataFrame, column: str = "policy") -> str:
    """Return the marks of a table, each with who bears it: `Known beforehand: none (lru, fifo), hindsight (belady).`"""
    by_mark = rows.groupby("known", sort=False)[column].unique()
    return "Known beforehand: " + ", ".join(f"{mark} ({', '.join(who)})" for mark, who in by_mark.items()) + "."
