"""The names of the order policies, for command lines: importing them imports no search."""

ALL = "all"
POLICIES = (
    "captured", "random", "lpmf", "bfs", "dfs", "liu", "series-parallel", "hybrid", "cuts", "windows", "ilp", "best",
)  # fmt: skip
