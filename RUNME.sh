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
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT  # nothing is left running when a stage fails

usage() { sed -n '2,17s/^# \{0,1\}//p' RUNME.sh; }
refuse() { echo "RUNME.sh: $1" >&2; exit 2; }

# as_called PATH: a path as the caller means it, who may stand in another folder than this script.
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
        echo "== installing into $folder"
        "$(base_python)" -m venv "$folder"
        # torch first, alone and by its exact version: asked for otherwise, it may bring gigabytes for a GPU.
        case $extras in *collect*) "$python" -m pip install --quiet "$(grep -o 'torch==[0-9.]*' pyproject.toml)" ;; esac
        "$python" -m pip install --quiet --editable ".${extras:+[$extras]}"
        "$python" -m simulate compile
        touch "$folder/ready"
    fi
}

# aside QUESTION COMMAND...: run one simulation beside the others; what it says is shown when all have ended.
aside() {
    local said="$out/simulated-${#pids[@]}.log"
    { echo "== simulate: $1" && "${@:2}"; } >"$said" 2>&1 &
    pids+=($!) logs_said+=("$said")
}

# beside COMMAND...: start on the other core what is not timed; `joined` waits for it, shows what it said and fails if it
# did. Nothing that is timed may run between the two.
beside() {
    beside_said=$(mktemp)
    "$@" >"$beside_said" 2>&1 &
    beside_pid=$!
}
joined() {
    local status=0
    wait "$beside_pid" || status=$?
    cat "$beside_said"
    rm -f "$beside_said"
    return $status
}

# simulated SET NAME OUT REPLICATIONS: what the executed runs of one set would have cost, by the simulator, and every
# configuration with so many seeds besides. A model called X has its trace in X.trace.parquet, what it selects under
# other rules in rules/X-*, and its costs in X.costs.parquet where they are not the set's.
simulated() {
    local set=$1 name=$2 into=$3 many=(--replications "$4" --jobs 1) model costs like=("$python" -m simulate like)
    local trace="$set/wide.trace.parquet" stepwise="$set/language-stepwise.trace.parquet"
    local known=(--known "$set/language-prefill.trace.parquet")
    [ -f "$trace" ] || trace="$set/executed.trace.parquet"
    [ -f "$stepwise" ] || stepwise="$set/memory.trace.parquet" known=()
    if [ -d "$set/executed" ]; then
        aside "what would each executed run of $name have cost?" "${like[@]}" "$set/executed" "$trace" \
            --costs "$set/costs.parquet" "${many[@]}" --out "$into"
    fi
    if [ -d "$set/memory-executed" ]; then
        aside "what would the runs with expert memory of $name have cost?" "${like[@]}" "$set/memory-executed" \
            "$stepwise" --costs "$set/memory-costs" --jobs 1 "${known[@]}" --out "$into/memory-simulated"
    fi
    for model in wide served; do
        compgen -G "$set/rules/$model-*.trace.parquet" >/dev/null || continue
        costs="$set/$model.costs.parquet"
        [ -f "$costs" ] || costs="$set/costs.parquet"
        aside "what would the operating points of $name's $model model have cost?" "${like[@]}" "$set/serving" \
            "$set/rules" --costs "$costs" "${many[@]}" --out "$into/serving"
        aside "do re-gated traces of $name predict what was recorded under the rule?" "$python" -m simulate open-loop \
            "$set/$model.trace.parquet" "$set/rules" --costs "$costs" --sequences 2000 "${many[@]}" --out "$into/open_loop/$model"
    done
}

# later_stages LOGS OUT REPLICATIONS: simulate what was executed, then tables, then figures. A stage that fails leaves a
# named hole for the next ones; the exit status remembers it.
later_stages() {
    local logs=$1 out=$2 many=$3 status=0 set name pids=() logs_said=() one
    mkdir -p "$out"
    for set in "$logs"/*/*/; do
        name=${set#"$logs"/}
        simulated "$set" "${name%/}" "$out/simulated/$name" "$many"
    done
    echo "== simulate: ${#pids[@]} grids side by side, $many replications of every configuration"
    for one in "${!pids[@]}"; do
        wait "${pids[$one]}" || status=1
        grep -v '^simulating' "${logs_said[$one]}" || true
    done
    echo "== analysis: tables and the sentence of every figure"
    "$python" -m analysis tables "$logs" "$out/simulated" --out "$out/tables" || status=1
    echo "== figures"
    "$python" -m figures "$out/tables" --out "$out/figures" || status=1
    echo "== $out/figures holds the figures, $out/tables the tables behind them"
    return $status
}

# What the stages after collect need; prints the names that this Python lacks.
lacking() {
    "$python" - <<'PY'
import importlib.util
names = ("numpy", "pandas", "scipy", "simpy", "matplotlib", "pyarrow", "joblib", "typer", "rich", "numba")
print(" ".join(name for name in names if importlib.util.find_spec(name) is None))
PY
}

# collect_all LOGS MODELS DATA DEVICE DATA_OPTIONS...: one set of logs, on a GPU in full, on a CPU at a smaller scale.
# Which scale each collector gets stands here, what it is asked in the functions below; they share these variables.
collect_all() {
    local models=$2 data=$3 device=$4
    shift 4
    local scale set patch=8 images=() from=("$@") common validation=5000
    scale=$("$python" -m collect device --device "$device" --kind)
    set="$logs/$("$python" -m collect device --device "$device")/$data"
    case $data in fashion-mnist) patch=7 ;; digits) patch=2 validation=300 ;; esac
    if [ "$scale" = cuda ]; then
        local wide_epochs=5 quality=(--epochs 8 --jobs 8) costs=20 execute=(--replications 3) serve=(--replications 3)
        local family=(--seeds 8 --epochs 6) memory=() vision=dense,switch:32,switch:64,random:32 vision_images=()
        local vision_sizes=(--patch 4 --dmodel 300 --heads 6 --hidden 600) vision_epochs=20 batch=(--batch 256)
        local vision_timed=() seen=switch32
        local language=(--steps 20000 --batch 32 --dmodel 256 --hidden 256) segments=1000 windows=32 requests=384
        local dense=(--experts 1 --k 1 --steps 20000 --batch 32 --dmodel 256 --hidden 1024) windowed=240
        local configurations=60 megabytes=48e6,72e6,96e6,120e6 milliseconds=1000
    else
        images=(--train-images 10000 --test-images 5000)
        local wide_epochs=2 quality=(--epochs 3 --jobs 2) costs=5 serve=(--replications 1 --in-flight 256 --batches-per-queue 15)
        local execute=(--replications 1 --batches-per-queue 10 --least-passes 500)
        local family=(--seeds 2 --epochs 2) memory=(--batch 100,400 --repetitions 3)
        [ "$data" != digits ] || memory[1]=100,300  # it has 360 test images
        local vision=dense,switch:4,switch:8,random:4 vision_images=(--train-images 4000 --test-images 2000)
        local vision_sizes=(--patch $patch) vision_epochs=3 batch=()
        local vision_timed=(--training-images 1280 --inference-images 5000) seen=switch8
        local language=(--steps 600) segments=200 windows=6 requests=72
        local dense=(--experts 1 --k 1 --steps 600 --hidden 512) windowed=60
        local configurations=16 megabytes=12e6,18e6,24e6,30e6 milliseconds=1000
    fi
    common=(--data "$data" --device "$device" "${images[@]}" "${from[@]}")
    collect_classifiers
    collect_rules
    collect_memory
    collect_dynamic_k
    collect_vision
    collect_video
    collect_language
    collect_expert_memory
}

collect_classifiers() {
    echo "== collect quality: accuracy at every k, 3 seeds ($scale)"
    "$python" -m collect quality "${common[@]}" --seeds 3 "${quality[@]}" --models "$models" --out "$set/quality.csv"
    base="$models/$data-k4-seed0-epochs${quality[1]}.pt" wide="$models/$data-wide.pt"
    echo "== collect route: which experts do the test images select?"
    "$python" -m collect route "${common[@]}" --checkpoint "$base" --out "$set/base.trace.parquet"
    echo "== collect train, route: the wide model, whose blocks are executed"
    "$python" -m collect train "${common[@]}" --config wide --epochs $wide_epochs --learning-rate 1e-3 --out "$wide"
    "$python" -m collect route "${common[@]}" --checkpoint "$wide" --out "$set/wide.trace.parquet"
    echo "== collect costs: what does a batch of n cost, inside the executor's loop?"
    "$python" -m collect costs "${common[@]}" --checkpoint "$wide" --repetitions $costs --out "$set/costs.parquet"
    echo "== collect execute: queues of size B on real weights"
    "$python" -m collect execute "${common[@]}" --checkpoint "$wide" --trace "$set/wide.trace.parquet" \
        --costs "$set/costs.parquet" "${execute[@]}" --out "$set/executed"
}

collect_rules() {
    echo "== collect rules: which experts run when the number per sample is chosen?"
    "$python" -m collect rules "${common[@]}" --checkpoint "$base" --name base --mean-k 1.5,2,3 --rules top-p:0.3 \
        --k 1,2,8 --out "$set/rules"
    "$python" -m collect rules "${common[@]}" --checkpoint "$wide" --name wide --mean-k 1.5,2,3 --k 1,2,3,4 --out "$set/rules"
    echo "== collect serve: the same arrivals under fixed and dynamic K, on real weights"
    "$python" -m collect serve "$set"/rules/wide-*.trace.parquet "${common[@]}" --checkpoint "$wide" \
        --costs "$set/costs.parquet" "${serve[@]}" --out "$set/serving"
}

collect_memory() {
    echo "== collect memory: bytes and time of static capacity and dynamic dispatch"
    "$python" -m collect memory "${common[@]}" --checkpoint "$base" "${memory[@]}" --out "$set/memory.csv"
}

collect_dynamic_k() {
    [ "$scale" = cuda ] || [ "$data" = digits ] || validation=1000
    local study=(--data "$data" --device "$device" "${images[@]}" "${from[@]}" --validation $validation --models "$models")
    echo "== collect family, operating-points, operating-times: does choosing K per sample beat a fixed K?"
    "$python" -m collect family "${study[@]}" "${family[@]}"
    "$python" -m collect operating-points "${study[@]}" "${family[@]}" --out "$set/dynamic_k.parquet"
    "$python" -m collect operating-times "${study[@]}" "${family[@]:2}" --points "$set/dynamic_k.parquet" \
        --out "$set/dynamic_k_times.csv"
}

collect_vision() {
    local looked=(--data "$data" --device "$device" "${vision_images[@]}" "${from[@]}" --variants "$vision")
    echo "== collect vision-grid, vision-times: dense, switch and random routing, accuracy and time"
    "$python" -m collect vision-grid "${looked[@]}" "${vision_sizes[@]}" "${batch[@]}" --seeds 2 --threshold 25 \
        --epochs $vision_epochs --jobs 2 --models "$models" --out "$set/vision.csv"
    "$python" -m collect vision-times "${looked[@]}" "${batch[@]}" --epochs $vision_epochs "${vision_timed[@]}" \
        --models "$models" --out "$set/vision_times.csv"
}

# Clips are looked for in video/static and video/moving of the data folder: what the camera does is for you to say.
collect_video() {
    local folder="${MOE_REPLAY_DATA:-}" clip camera name
    [ ${#from[@]} -eq 0 ] || folder=${from[1]}
    [ "$data" = cifar10 ] || return 0
    for camera in static moving; do
        for clip in "$folder/video/$camera"/*; do
            [ -f "$clip" ] || continue
            name=$(basename "$clip")
            echo "== collect video: which experts do the frames of $name select?"
            "$python" -m collect video "$clip" --camera $camera --frames 250 --score-bits 7 --device "$device" \
                --checkpoint "$models/$data-vit-$seen-seed0-epochs$vision_epochs.pt" \
                --out "$set/video/${name%.*}.trace.parquet"
        done
    done
}

# Once per device, whatever the image data: the text is what this machine has of code, docs and novels.
collect_language() {
    local text="${set%/*}/text" model="$models/language.pt" options=(--device "$device" "${from[@]}")
    echo "== collect language: a byte-level MoE language model, its held-out bits per byte, prefill and decode traces"
    beside "$python" -m collect language "${options[@]}" "${dense[@]}" --out "$models/language-dense.pt"
    "$python" -m collect language "${options[@]}" "${language[@]}" --out "$model"
    joined
    beside "$python" -m collect language-quality "${options[@]}" --checkpoint "$model" --segments $segments \
        --out "$text/language.csv"
    "$python" -m collect language-route "${options[@]}" --checkpoint "$model" --phase prefill --windows $windows \
        --candidates 8 --score-bits 7 --out "$text/language-prefill.trace.parquet"
    "$python" -m collect language-route "${options[@]}" --checkpoint "$model" --phase decode --requests $requests \
        --candidates 8 --score-bits 7 --out "$text/language-decode.trace.parquet"
    "$python" -m collect language-route "${options[@]}" --checkpoint "$model" --phase stepwise --windows 1 --seed 7 \
        --score-bits 7 --out "$text/language-stepwise.trace.parquet"
    joined
}

# Slots are as many as the model has experts for; the slow tier's pace on a CPU is the commands' default.
collect_expert_memory() {
    local text="${set%/*}/text" way masked=() budgets=() known trace
    known="$text/language-prefill.trace.parquet" trace="$text/language-stepwise.trace.parquet"
    local options=(--device "$device" --checkpoint "$models/language.pt")
    echo "== collect expert memory: costs, executions with expert slots, quality of masked gating"
    for way in resident load masked; do
        case $way in resident) masked=() ;; load) masked=(--slots 8) ;; masked) masked=(--slots 8 --miss redirect) ;; esac
        "$python" -m collect costs "${options[@]}" --sizes 1,2,3 --repetitions 5 "${masked[@]}" \
            --out "$text/memory-costs/$way.parquet"
    done
    remember() {
        "$python" -m collect execute "${options[@]}" --trace "$trace" --costs "$text/memory-costs/load.parquet" \
            --known "$known" --replications 1 --queue-size 1 "$@" --out "$text/memory-executed"
    }
    local one=(--in-flight 1 --lockstep 0)
    remember "${one[@]}" --slots 4,8,16 --cache lru
    remember "${one[@]}" --slots 8 --cache lru --miss block
    remember "${one[@]}" --slots 8 --cache fifo,lifo,lfu
    remember "${one[@]}" --slots 16 --cache lru --prefetch co-activation
    remember "${one[@]}" --slots 4,8,16 --cache importance --miss redirect
    remember "${one[@]}" --slots 4,8,16 --cache importance --miss redirect --period 64
    remember "${one[@]}" --slots 16 --cache importance --miss skip --period 64
    remember --in-flight 3 --lockstep 3 --slots 8 --cache lru
    beside masked_quality_of_images
    "$python" -m collect skip-exchange "${options[@]}" "${from[@]}" --units $windowed --out "$text/skip-exchange.csv"
    "$python" -m collect swap-quality "${options[@]}" "${from[@]}" --units $windowed --period 1,4,16 \
        --dense "$models/language-dense.pt" --out "$text/swap-quality.csv"
    joined
    # A plan is as good as its models where the profile has no neighbour: what first plans give is measured, and counts.
    budgets=(--memory-bytes "$megabytes" --latency-ms "$milliseconds")
    swap_profile() {
        "$python" -m collect swap-profile "${options[@]}" "${from[@]}" --trace "$trace" --known "$known" \
            --costs "$text/memory-costs/masked.parquet" "$@"
    }
    swap_profile --configurations $configurations --out "$text/swap-profile.csv"
    # A budget that no plan meets is refused and the others' plans are written: a failure is that there are none. What
    # was planned is kept: its plans were measured.
    plan_swaps() {
        [ -f "$1" ] || "$python" -m simulate plan "${@:2}" "${budgets[@]}" --out "$1" || [ -f "$1" ]
    }
    if [ -z "$(lacking)" ]; then
        plan_swaps "$text/swap-first-plans.csv" "$text/swap-profile.csv"
        swap_profile --plans "$text/swap-first-plans.csv" --units $windowed --out "$text/swap-refined.csv"
        plan_swaps "$text/swap-plans.csv" "$text"/swap-{profile,refined}.csv
        swap_profile --plans "$text/swap-plans.csv" --units $windowed --out "$text/swap-verified.csv"
    fi
}

masked_quality_of_images() {
    "$python" -m collect skip-exchange "${common[@]}" --checkpoint "$models/$data-wide.pt" --units 10000 \
        --out "$set/skip-exchange.csv" &&
        "$python" -m collect swap-quality "${common[@]}" --checkpoint "$models/$data-wide.pt" --units 10000 \
            --slots 2,4,8,12 --period 64,512 --out "$set/swap-quality.csv"
}

fresh() {
    local data=cifar10 device=auto out=outputs_from_run_$now options=() missing minutes="" pack="" status=0
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
    environment collect
    local logs="$out/logs"
    if [ -n "$minutes" ]; then
        "$python" -m collect quick --device "$device" --minutes "$minutes" --out "$logs" --models "$out/models" \
            --pack "${pack:-$out/packed}" || status=$?
        [ $status -lt 2 ] || exit $status
    else
        collect_all "$logs" "$out/models" "$data" "$device" "${options[@]}"
    fi
    missing=$(lacking)
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
        environment
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
