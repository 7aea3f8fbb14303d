"""The notebook: it runs from its folder, and the tables and pictures that it shows are those that it makes."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = ROOT / "figures" / "examples" / "what_if.ipynb"


def shown(notebook):
    """What every cell of code shows: text, and whether there is a picture; nothing else may be shown."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output["output_type"] in ("execute_result", "display_data"), output
            found.append((output["data"]["text/plain"], "image/png" in output["data"]))
    return found


def test_the_notebook_shows_what_it_makes(monkeypatch):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # ./RUNME.sh sets one that shows nothing in a notebook
    kept = nbformat.read(NOTEBOOK, as_version=4)
    ran = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(ran, timeout=280, kernel_name="python3", resources=where).execute()
    assert shown(ran) == shown(kept)
    assert sum(picture for _, picture in shown(kept)) == 2
    assert len(shown(kept)) == 6
