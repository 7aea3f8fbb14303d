#!/usr/bin/env bash
# moe-replay from one command. The only place that knows the order of the stages.
#
#   ./RUNME.sh [logs [FOLDER]]  every figure from the shipped logs (or those in FOLDER): no GPU, no torch, about a minute;
#                               all executed runs are simulated, and every configuration with 20 seeds
#   ./RUNME.sh full [FOLDER]    the same with 100 seeds: minutes
#   ./RUNME.sh fresh            collect first, on the GPU if there is one, else on the CPU at a smaller scale (about
#                               an hour on two cores), then the same tables and figures from what was just
#                               measured. Options:
#                               --data cifar10|fashion-mnist|digits  --data-dir FOLDER  --device auto|cpu|cuda
#   ./RUNME.sh fresh --minutes 8 [--pack FOLDER]  what a GPU gives in so many minutes (a CPU at tiny sizes); tar files in FOLDER
#   ./RUNME.sh test             install what the tests need and run them
#
# PYTHON=/path/to/python3 uses that interpreter as it is instead of making a virtual environment. Exit status: 0 all was
# made; 1 something failed or is missing in a figure; 2 bad options; 3 collected, but this Python lacks what plots.
set -euo pipefail
called_from=$PWD
cd "$(dirname "$0")"
export MPLBACKEND=Agg

usage() { sed -n '2,17s/^# \{0,1\}//p' RUNME.sh; }
refuse() { echo "RUNME.sh: $1" >&2; exit 2; }

# as_called PATH: a path as the caller means it, who may be in another folder than this script.
as_called() {
    case $1 in
        /*) echo "$1" ;;
        *) if [ "$called_from" = "$PWD" ]; then echo "$1"; else echo "$called_from/$1"; fi ;;
    esac
}

base_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    refuse "needs Python 3.11, 3.12 or 3.13"
}

# environment [EXTRAS]: make (or reuse) a virtual environment with these extras; PYTHON, if set, is taken as it is.
environment() {
    if [ -n "${PYTHON:-}" ]; then
        python=$PYTHON
        return
    fi
    local extras=${1:-} folder=".venv${1:+-${1//,/-}}"
    python="$folder/bin/python"
    if [ ! -f "$folder/ready" ] || [ pyproject.toml -nt "$folder/ready" ]; then
        echo "== installing into $folder: downloads about 200 MB (numpy, pandas, pyarrow, scipy, numba, matplotlib)" \
            "${extras:+and what $extras need}"
        local quiet=--quiet
        [ ! -t 1 ] || quiet=--progress-bar=on # a terminal shows each download and how far it is
        "$(base_python)" -m venv "$folder"
        # torch first, alone and by its exact version: asked for otherwise, it may bring gigabytes for a GPU.
        case $extras in *collect*) "$python" -m pip install $quiet "$(grep -o 'torch==[0-9.]*' pyproject.toml)" ;; esac
        "$python" -m pip install $quiet --editable ".${extras:+[$extras]}"
        "$python" -m simulate compile
        touch "$folder/ready"
    fi
}

# later_stages LOGS OUT REPLICATIONS: simulate what was executed, then tables, figures and the report. A stage that fails
# leaves a named hole for the next ones; the exit status remembers it.
later_stages() {
    local logs=$1 out=$2 many=$3 status=0
    # Every core has a process of its own; threads of numpy's BLAS beside them only take time, a tenth of all.
    export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"
    echo "== stage 1 of 4: simulate"
    "$python" -m simulate logs "$logs" --out "$out/simulated" --replications "$many" || status=1
    echo "== stage 2 of 4, after $SECONDS s: analysis: tables and the sentence of every figure"
    "$python" -m analysis tables "$logs" "$out/simulated" --out "$out/tables" || status=1
    echo "== stage 3 of 4, after $SECONDS s: figures"
    "$python" -m figures "$out/tables" --out "$out/figures" || status=1
    echo "== stage 4 of 4, after $SECONDS s: report: one page of all of it"
    if "$python" -c 'from importlib.util import find_spec as has; exit(not (has("bokeh") and has("jinja2")))'; then
        "$python" -m figures report "$out" --out "$out/report.html" || status=1
    else
        echo "no report: this Python lacks bokeh or jinja2 (pip install -e .[report])"
    fi
    echo "== $out/report.html shows it all; $out/figures holds the figures, $out/tables the tables behind them"
    return $status
}

fresh() {
    local data="" device=auto out=outputs_from_run_$now options=() missing minutes="" pack="" status=0
    [ -z "${OUT:-}" ] || out=$(as_called "$OUT")
    while [ $# -gt 0 ]; do
        case $1 in --data | --device | --data-dir | --out | --minutes | --pack) [ -n "${2:-}" ] || refuse "fresh: $1 needs a value" ;; esac
        case $1 in
            --data) data=$2 ;;
            --device) device=$2 ;;
            --data-dir) options+=(--data-dir "$(as_called "$2")") ;;
            --out) out=$(as_called "$2") ;;
            --minutes) minutes=$2 ;;
            --pack) pack=$(as_called "$2") ;;
            *) refuse "fresh: unknown option '$1'; known: --data, --data-dir, --device, --minutes, --out, --pack" ;;
        esac
        shift 2
    done
    [ -z "$minutes" ] || [ -z "$data${options[*]}" ] || refuse "fresh: --data and --data-dir have no meaning with --minutes"
    [ -n "$minutes" ] || [ -z "$pack" ] || refuse "fresh: --pack has a meaning only with --minutes"
    environment collect,report
    local logs="$out/logs"
    if [ -n "$minutes" ]; then
        "$python" -m collect quick --device "$device" --minutes "$minutes" --out "$logs" --models "$out/models" \
            --pack "${pack:-$out/packed}" || status=$?
        [ $status -lt 2 ] || exit $status
    else
        "$python" -m collect fresh --device "$device" --data "${data:-cifar10}" "${options[@]}" --out "$logs" --models "$out/models"
    fi
    missing=$("$python" -c 'from moe_replay.collect.quick.machine import LATER, lacking; print(*lacking(LATER))')
    if [ -n "$missing" ]; then
        echo "RUNME.sh: the logs are safe in $logs; this Python lacks $missing, so the later stages wait for another:" \
            "./RUNME.sh logs $logs" >&2
        exit 3
    fi
    later_stages "$logs" "$out" 20 || status=1
    return $status
}

[ -z "${MOE_REPLAY_DATA:-}" ] || MOE_REPLAY_DATA=$(as_called "$MOE_REPLAY_DATA")
case ${PYTHON:-} in */*) PYTHON=$(as_called "$PYTHON") ;; esac
now=$(date +%Y%m%d-%H%M%S)
mode=${1:-logs}
[ $# -eq 0 ] || shift
case $mode in
    logs | full)
        logs=traces/data
        [ -z "${1:-}" ] || logs=$(as_called "$1")
        [ -d "$logs" ] || refuse "$logs: no such folder of logs"
        compgen -G "${logs%/}/*/*/" >/dev/null || refuse "$logs: holds no logs; allowed: a folder of DEVICE/DATA folders"
        environment report
        if [ "$mode" = full ]; then later_stages "${logs%/}" "outputs_from_logs_$now" 100
        else later_stages "${logs%/}" "outputs_from_logs_$now" 20; fi
        ;;
    fresh) fresh "$@" ;;
    test)
        environment collect,test
        "$python" -m ruff check .
        "$python" -m ruff format --check .
        "$python" -m pytest -n 2 "$@"
        ;;
    -h | --help | help) usage ;;
    *) refuse "unknown mode '$mode'; known: logs, full, fresh, test" ;;
esac
