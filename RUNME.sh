#!/usr/bin/env bash
# moe-replay from one command. The only place that knows the order of the stages.
#
#   ./RUNME.sh            every figure from the shipped logs: no GPU, no torch, under a minute after installation
#   ./RUNME.sh full       the same over the whole grid of runs and with 20 simulated replications (about MINUTES_FULL minutes)
#   ./RUNME.sh fresh      collect first (on the GPU if there is one, else on the CPU at a smaller scale), then the same
#                         figures from what was just measured; options: --data NAME, --data-dir FOLDER, --device DEVICE
#   ./RUNME.sh test       install what the tests need and run them
#
# PYTHON=/path/to/python3 uses that interpreter as it is instead of making a virtual environment.
set -euo pipefail
cd "$(dirname "$0")"
export PYTHONHASHSEED=0 MPLBACKEND=Agg

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0"; }

# Make (or reuse) a virtual environment with the named extra; PYTHON, if set, is taken as it is.
environment() {
    local extra=$1 folder=".venv-$1"
    if [ -n "${PYTHON:-}" ]; then
        python=$PYTHON
        return
    fi
    python="$folder/bin/python"
    if [ ! -f "$folder/ready" ] || [ pyproject.toml -nt "$folder/ready" ]; then
        echo "== installing into $folder"
        "$(base_python)" -m venv "$folder"
        # torch first and by its exact version: pip then leaves it alone whatever else asks for it.
        if [ "$extra" != figures ]; then "$python" -m pip install --quiet "$(torch_requirement)"; fi
        if [ "$extra" = figures ]; then "$python" -m pip install --quiet --editable .
        else "$python" -m pip install --quiet --editable ".[$extra]"; fi
        touch "$folder/ready"
    fi
}

base_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "RUNME.sh: needs Python 3.11, 3.12 or 3.13" >&2
    exit 2
}

torch_requirement() { grep -o 'torch==[0-9.]*' pyproject.toml | head -n 1; }
