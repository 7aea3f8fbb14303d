"""As a newcomer: what one adds is one file, or two of one name, and one line of a table; everything else finds it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("traces", "collect", "simulate", "analysis", "figures")
UNCOPIED = shutil.ignore_patterns("data", "shipped", "__pycache__")


@pytest.fixture
def house(tmp_path):
    """A copy of the sources and tests, to change."""
    copy = tmp_path / "house"
    copy.mkdir()
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in (".py", ".toml", ".md", ".sh"):
            shutil.copy(path, copy)
    for room in (*ROOMS, "tests"):
        shutil.copytree(ROOT / room, copy / room, ignore=UNCOPIED)
    return copy


def add_line(house, table, behind, line):
    """Write one line of a table behind the line that begins so."""
    path = house / table
    lines = path.read_text().splitlines(keepends=True)
    (at,) = [number for number, each in enumerate(lines) if each.lstrip().startswith(behind)]
    path.write_text("".join([*lines[: at + 1], f"{line}\n", *lines[at + 1 :]]))


def run(house, folder, *words, status=0):
    environment = {**os.environ, "PYTHONPATH": str(house), "COLUMNS": "200", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == status, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def house_rules_hold(house):
    run(house, house, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_architecture.py")


TABLE = '''"""The table `widest_steps`: how many tokens the widest step of each set's trace holds."""

from pathlib import Path

import numpy as np

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.written_tables import holes, write_claims, write_tables
from moe_replay.traces.file.trace_file import load_trace


def build_widest_steps(inputs: Inputs, out: Path) -> list[str]:
    """Write the table and its claim."""
    rows = []
    for name, trace, reason in inputs.per_data("base.trace.parquet", load_trace):
        tokens = None if trace is None else int(np.unique(trace.step_T, return_counts=True)[1].max())
        rows.append({"set": name, "tokens": tokens, "status": "ok" if trace else "failed", "reason": reason})
    table = write_tables(out, {"widest_steps": rows}, inputs.used("base.trace.parquet"))["widest_steps"]
    claim = f"The widest step holds {table['tokens'].max()} tokens."
    write_claims(out, {"widest_steps": {"claim": claim, "numbers": {}}})
    return holes(table)
'''
FIGURE = '''"""How wide does a step get? One bar per set."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.table_files import TableFiles


def draw(tables: TableFiles) -> Figure:
    """Return the figure: tokens of the widest step."""
    rows = tables.rows("widest_steps")
    figure, axes = plt.subplots(layout="constrained")
    axes.bar(rows["set"], rows["tokens"])
    axes.set_ylabel("tokens of the widest step")
    style.headline(figure, f"The widest step has {rows['tokens'].max():,} tokens")
    return figure
'''


def test_a_new_figure_is_a_table_module_a_figure_module_and_a_line(house, tmp_path):
    (house / "analysis" / "tables" / "widest_steps.py").write_text(TABLE)
    (house / "figures" / "routing" / "widest_steps.py").write_text(FIGURE)
    add_line(house, "analysis/table_builds.py", '"links":', '    "widest_steps": "widest_steps:build_widest_steps",')
    trace = synthetic_trace(SyntheticSpec(sequences=8, batch=8), np.random.default_rng(0)).trace
    (tmp_path / "logs" / "cpu" / "toy").mkdir(parents=True)
    save_trace(trace, tmp_path / "logs" / "cpu" / "toy" / "base.trace.parquet")
    assert "widest_steps" in run(house, tmp_path, "-m", "moe_replay.analysis", "tables", "--help")
    assert "widest_steps" in run(house, tmp_path, "-m", "moe_replay.figures", "draw", "--help")
    run(house, tmp_path, "-m", "moe_replay.analysis", "tables", "logs", "--only", "widest_steps", "--out", "tables")
    assert "128" in (tmp_path / "tables" / "widest_steps.csv").read_text()
    run(house, tmp_path, "-m", "moe_replay.figures", "tables", "--out", "drawn")
    assert "The widest step holds 128 tokens." in (tmp_path / "drawn" / "widest_steps.md").read_text()
    assert (tmp_path / "drawn" / "widest_steps.pdf").exists()
    house_rules_hold(house)


IMPORTER = '''"""`word-list`: a line per token, its experts in one layer, blanks between; one prompt."""

import numpy as np

from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.importers.reading.token_rows import Sequences, check_ids
from moe_replay.traces.selections import Trace


def read(source: Source) -> Trace:
    """Return the trace in the only file."""
    path = source.one_file()
    rows = [[int(word) for word in line.split()] for line in path.read_text().splitlines()]
    experts_TLK = np.array(rows, np.int16)[:, None]
    check_ids(str(path), experts_TLK, source.options.experts)
    length_S = np.array([len(rows)])
    fields = Sequences(length_S, length_S, np.zeros(1, int)).token_fields()
    return source.trace(source.model(len(rows[0]), (0,)), {}, experts_TLK=experts_TLK, **fields)
'''


def test_a_new_importer_is_a_module_and_a_line(house, tmp_path):
    (house / "traces" / "importers" / "word_list.py").write_text(IMPORTER)
    add_line(house, "traces/importers/importer_names.py", '"npz":', '    "word-list": Kind(("experts",), ("ranked",)),')
    (tmp_path / "tokens.txt").write_text("0 3\n1 2\n")
    assert "word-list" in run(house, tmp_path, "-m", "moe_replay.traces", "import", "--help")
    words = ("-m", "moe_replay.traces", "import", "word-list", "tokens.txt", "--out", "t.trace.parquet")
    assert "word-list: needed: --experts" in run(house, tmp_path, *words, status=2)
    assert "--phase means nothing here" in run(house, tmp_path, *words, "--experts", "4", "--phase", "decode", status=2)
    assert "allowed 0..2" in run(house, tmp_path, *words, "--experts", "3", status=2)
    run(house, tmp_path, *words, "--experts", "4", "--ranked")
    assert load_trace(tmp_path / "t.trace.parquet").experts_TLK.tolist() == [[[0, 3]], [[1, 2]]]
    assert re.search("word-list", run(house, tmp_path, "-m", "moe_replay.traces", "describe", "t.trace.parquet"))
    house_rules_hold(house)


POLICY = '''"""Most recently used."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.lru import LRU


class MostRecent(LRU):
    """Evict the expert used last."""

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return the expert that was used last."""
        return next(expert for expert in reversed(self.order) if expert not in kept)
'''
COMPILED = '''"""Most recently used, compiled: its rule is that of `simulate.policies.caches.most_recent`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches import lru
from moe_replay.simulate.compiled.caches.cache_orders import is_kept
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import cache_at, key_at
from moe_replay.simulate.compiled.memory.memory_layout import Memory
from moe_replay.simulate.policies.caches.most_recent import MostRecent


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the expert that was used last and may leave."""
    key = cache_at(memory, cache).last
    while is_kept(memory, key):
        key = key_at(memory, key).before
    return key


TWINS = {MostRecent: CompiledPolicy(victim, note_touch=lru.note_touch)}
'''
EQUAL = """
import numpy as np
import moe_replay

trace = moe_replay.synthetic(layers=2, experts=8, k=2, sequences=20, seed=3)
world = dict(scheduler="lockstep", arrivals="closed", in_flight=1, cache="most-recent", slots=3, expert_bytes=400_000)
runs = [moe_replay.replay(trace, (2e-4, 2e-5), engine=engine, **world).records for engine in ("simpy", "compiled")]
for table in ("passes", "batches", "transfers"):
    for name, column in getattr(runs[0], table).items():
        np.testing.assert_array_equal(column, getattr(runs[1], table)[name])
others = moe_replay.replay(trace, (2e-4, 2e-5), **(world | {"cache": "lru"})).records
print(len(runs[1].transfers["link"]) != len(others.transfers["link"]), runs[1].header["engine"])
"""


@pytest.mark.timeout(1200)
def test_a_new_cache_policy_is_a_module_its_compiled_twin_and_a_line(house, tmp_path):
    (house / "simulate" / "policies" / "caches" / "most_recent.py").write_text(POLICY)
    (house / "simulate" / "compiled" / "caches" / "most_recent.py").write_text(COMPILED)
    add_line(house, "simulate/policies/caches/cache_names.py", '"lfu":', '    "most-recent": "most_recent:MostRecent",')
    house_rules_hold(house)
    assert "most-recent" in run(house, tmp_path, "-m", "moe_replay.simulate", "misses", "--help")
    contract = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/simulate/policies/test_cache_policies.py")
    assert run(house, house, *contract, "-k", "contract and most-recent").startswith("....")
    (tmp_path / "equal.py").write_text(EQUAL)
    assert "True compiled" in run(house, tmp_path, "equal.py")
