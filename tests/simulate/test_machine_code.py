"""Machine code of the compiled engine: what is kept, who compiles, and that loading it takes no numba."""

import ast
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from simulate.compiled import entries, instant, jit, machine_code
from simulate.compiled.checking import CheckedRecord
from simulate.compiled.parts import PartLibrary

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import sys, time
import numpy as np
from simulate.costs import affine
from simulate.engines import simulate
from simulate.policies.config import RunConfig
from simulate.policies.workload import build_workload

ids = np.arange(40, dtype=np.int32)
workload = build_workload((ids % 3).astype(np.int16).reshape(-1, 1, 1), ids, ids, 3)
records = simulate(workload, RunConfig(), affine(1, 1), {"config": {}}, engine="compiled")
print(int(records.passes["end_ns"].sum()), *sorted({"numba", "scipy"} & set(sys.modules)))
"""


@jit.compiled
def twice(value):
    """Return the number doubled."""
    return 2 * value


@jit.compiled
def allocates(count):
    """Take memory of numba's own."""
    return len(np.ones(count))


def run(folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), **environment},
    )  # fmt: skip
    return done.stdout.split()


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.o")}


def test_what_the_first_process_compiled_others_load_without_numba(tmp_path):
    makespan, *imported = run(tmp_path)
    assert "numba" in imported
    kept = files(tmp_path)
    assert [path.name.split("-")[0] for path in kept] == ["play_resident"]
    assert run(tmp_path) == [makespan]
    assert files(tmp_path) == kept


def test_processes_that_start_together_compile_once(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(run, [tmp_path, tmp_path])
    assert one[0] == other[0]
    assert sorted(["numba" in one, "numba" in other]) == [False, True]
    assert len(files(tmp_path)) == 1


def test_threads_that_start_together_share_an_entry():
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: machine_code.entry("fill"), range(8)))
    assert len(set(made)) == 1


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


def test_another_processor_has_machine_code_of_its_own(monkeypatch):
    mine = machine_code.processor_digest()
    assert mine == machine_code.processor_digest()
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert machine_code.processor_digest() != mine


def test_a_number_changed_in_the_policies_is_other_machine_code(monkeypatch, tmp_path):
    shutil.copytree(ROOT / "simulate" / "policies", tmp_path / "policies")
    monkeypatch.setattr(machine_code, "SOURCES", (machine_code.PACKAGE, tmp_path / "policies"))
    before, changed = machine_code.folder_name(), tmp_path / "policies" / "memory" / "s3fifo.py"
    assert before == machine_code.folder_name()
    changed.write_text(changed.read_text().replace("MOST_USES = 3", "MOST_USES = 4"))
    assert machine_code.folder_name() != before


def test_compiled_code_takes_nothing_from_sources_that_the_digest_leaves_out():
    """All that the entries import, wherever it stands in the project, lies in folders of the digest."""
    waiting, seen = {"simulate.compiled.entries"}, set()
    while waiting:
        seen.add(name := waiting.pop())
        path = ROOT / (name.replace(".", "/") + ".py")
        assert any(path.is_relative_to(folder) for folder in machine_code.SOURCES)
        if path.is_relative_to(machine_code.PACKAGE):
            tree = ast.walk(ast.parse(path.read_text()))
            imported = {node.module for node in tree if isinstance(node, ast.ImportFrom)}
            waiting |= {module for module in imported if module.startswith(("simulate.", "traces."))} - seen
    assert "simulate.policies.memory.s3fifo" in seen


def test_sources_that_changed_meanwhile_are_not_compiled(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "simulate.compiled.entries")
    with pytest.raises(RuntimeError, match="sources changed since this process began: start it again"):
        machine_code.keep_compiled("fill", tmp_path / "engine-of-other-sources" / "fill.o")


def test_object_code_runs():
    symbol, code = jit.object_code(twice, 1)
    assert machine_code.callable_at(machine_code.loaded(symbol, code), 1)(21) == 42


def test_what_needs_numbas_run_time_is_refused():
    with pytest.raises(RuntimeError, match=r"allocates.* calls NRT_.*, which numba's run time alone has"):
        jit.object_code(allocates, 1)


def test_a_failure_of_compiled_code_is_told():
    native = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, ctypes.c_int64)(lambda *_: 1)
    call = machine_code.callable_at(ctypes.cast(native, ctypes.c_void_p).value, 1)
    with pytest.raises(RuntimeError, match="compiled code failed with status 1"):
        call(0)


def is_resident(types):
    """Say whether these are types of a run in the usual form whose experts are all resident."""
    return not any(isinstance(each, CheckedRecord) or "stamp" in getattr(each, "fields", ()) for each in types)


def test_parts_are_compiled_once_and_never_by_themselves():
    """Otherwise compiling takes more than twice as long."""
    jit.object_code(entries.play_resident, 1)
    assert all(isinstance(made.library, PartLibrary) for made in instant.go_on.overloads.values())
    forms = [list(part.overloads) for part in vars(instant).values() if isinstance(part, jit.Part)]
    resident = [sum(is_resident(types) for types in each) for each in forms]  # others may have been compiled before
    assert max(resident) == 1
    assert resident.count(1) > 8
    assert twice.compile((jit.types.int32,)) == twice.compile((jit.types.boolean,))
    assert len(twice.overloads) == 1
