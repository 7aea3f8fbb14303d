"""Files that others read: how to cite the project, and where its tests run."""

import re
import tomllib
from pathlib import Path

import yaml

import moe_replay

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_names_this_version_and_licence():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == moe_replay.__version__
    assert cited["license"] == PROJECT["license"]
    assert cited["authors"] == [{"name": "The moe-replay developers"}]
    assert {"cff-version", "message", "title", "type"} <= cited.keys()


def test_the_workflow_tests_every_python_that_is_supported_by_one_command():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    job = workflow["jobs"]["test"]
    low, high = (int(minor) for minor in re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups())
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(low, high)]
    assert job["steps"][-1]["run"] == "./RUNME.sh test"


def test_the_container_runs_the_same_command():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert lines[-1] == 'CMD ["./RUNME.sh", "test"]'
    (image,) = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert re.fullmatch(r"python:3\.1[1-3]-slim", image)
