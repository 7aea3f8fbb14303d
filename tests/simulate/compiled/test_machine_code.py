"""Machine code of the compiled engine: what is kept, where, and who compiles."""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import pytest

from moe_replay.simulate.compiled import entries, jit, machine_code
from moe_replay.simulate.compiled.caches import cache_policies
from moe_replay.simulate.compiled.memory.memory_layout import MEMORY
from moe_replay.simulate.compiled.prefetchers import prefetching
from moe_replay.simulate.compiled.rule_numbers import CACHE_NUMBERS, PREFETCHER_NUMBERS, module_of

ROOT = Path(__file__).resolve().parents[3]

RUN = """
import numpy as np
from moe_replay.simulate.compiled import entries
from moe_replay.simulate.config.costs import affine
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload

ids = np.arange(40, dtype=np.int32)
workload = build_workload((ids % 3).astype(np.int16).reshape(-1, 1, 1), ids, ids, 3)
records = simulate(workload, RunConfig(), affine(1, 1), {"config": {}}, engine="compiled")
compiled = sum(entries.play_resident.function.stats.cache_misses.values())
print(int(records.passes["end_ns"].sum()), "compiled" if compiled else "loaded")
"""


def run(folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), **environment},
    )  # fmt: skip
    return done.stdout.split()


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


def test_what_the_first_process_compiled_others_load(tmp_path):
    makespan, how = run(tmp_path)
    assert how == "compiled"
    kept = files(tmp_path)
    assert [path.name.split("-")[0] for path in kept] == ["entries.play_resident"]
    assert run(tmp_path) == [makespan, "loaded"]
    assert files(tmp_path) == kept


def test_processes_that_start_together_compile_once(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(run, [tmp_path, tmp_path])
    assert one[0] == other[0]
    assert sorted([one[1], other[1]]) == ["compiled", "loaded"]
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("name", machine_code.SETTINGS)
def test_what_is_compiled_under_other_settings_is_kept_apart(monkeypatch, name):
    monkeypatch.delenv(name, raising=False)
    usual = machine_code.cache_folder.__wrapped__()
    monkeypatch.setenv(name, "1")
    other = machine_code.cache_folder.__wrapped__()
    assert other != usual
    assert other.parent == usual.parent


def test_threads_that_start_together_share_an_entry():
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: entries.fill.prepare(), range(8)))
    assert len(entries.fill.function.signatures) == len(set(entries.fill.function.signatures))


def test_where_machine_code_is_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert machine_code.writable_parent() == machine_code.PACKAGE / "__pycache__"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "given"))
    assert machine_code.writable_parent() == tmp_path / "given"
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert machine_code.writable_parent() == tmp_path / "cache" / "moe-replay"
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    alone = machine_code.writable_parent()
    assert alone.parent == tmp_path
    assert alone.stat().st_mode & 0o077 == 0


def test_a_number_changed_in_the_policies_is_other_machine_code(monkeypatch, tmp_path):
    shutil.copytree(ROOT / "simulate" / "policies", tmp_path / "policies")
    monkeypatch.setattr(machine_code, "SOURCES", (machine_code.PACKAGE, tmp_path / "policies"))
    before, changed = machine_code.folder_name(), tmp_path / "policies" / "caches" / "s3fifo.py"
    assert before == machine_code.folder_name()
    changed.write_text(changed.read_text().replace("MOST_USES = 3", "MOST_USES = 4"))
    assert machine_code.folder_name() != before


def test_compiled_code_takes_nothing_from_sources_that_the_digest_leaves_out():
    """All that the entries import, wherever it is in the project, lies in folders of the digest."""

    def file_of(name):
        return ROOT / (name.removeprefix("moe_replay.").replace(".", "/") + ".py")

    rules = {
        f"{package.__package__}.{module_of(rule)}"  # imported by their names
        for package, numbers in ((cache_policies, CACHE_NUMBERS), (prefetching, PREFETCHER_NUMBERS))
        for rule in numbers
    }
    waiting, seen = {"moe_replay.simulate.compiled.entries", *rules}, set()
    while waiting:
        seen.add(name := waiting.pop())
        path = file_of(name)
        assert any(path.is_relative_to(folder) for folder in machine_code.SOURCES)
        if path.is_relative_to(machine_code.PACKAGE):
            lines = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
            lines = [node for node in lines if node.module.startswith("moe_replay.")]
            imported = {node.module for node in lines}
            imported |= {f"{node.module}.{each.name}" for node in lines for each in node.names}
            found = {module for module in imported if file_of(module).exists()}
            assert all(node.module in found or file_of(node.module).with_suffix("").is_dir() for node in lines)
            waiting |= found - seen
    assert "moe_replay.simulate.compiled.caches.belady" in seen
    assert "moe_replay.simulate.policies.caches.s3fifo" in seen


def test_sources_that_changed_meanwhile_are_not_compiled(monkeypatch):
    monkeypatch.setattr(machine_code, "folder_name", lambda: "engine-of-other-sources")
    monkeypatch.setattr(entries, "fill", jit.Entry(entries.fill.function.py_func, (MEMORY,)))
    with pytest.raises(RuntimeError, match="sources changed since this process began: start it again"):
        entries.fill.prepare()


def test_what_numba_is_told_of_the_folder_counts_for_the_entries_alone():
    given = os.environ.get("NUMBA_CACHE_DIR", "")
    assert given == numba.config.CACHE_DIR
