#!/usr/bin/env bash
# Builds, checks and times the CUDA kernels on the GPU of this machine, in one command that ends within
# ten minutes:
#
#     OUT=results bash bench/gpu.sh            # OUT: where the results go; build/gpu/out by itself
#     bash bench/gpu.sh --dry-run              # without a GPU: everything up to the first launch
#
# Writes $OUT/results.json (every step with its outcome and seconds, the environment, the 8192^3 matrix
# product and every bench), $OUT/bench.html (the benches as a page), $OUT/log.txt (what the steps said),
# $OUT/golden.tar.gz and ncu's tables.
# Every step has a time limit, and a step that fails or hangs doesn't keep the later ones from running.
# Exit code: 0 if no step failed, 1 otherwise. Steps that need what isn't here (a device, compute-sanitizer,
# ncu) are recorded as "not run" with the reason, and are no failures; on a machine with a device a test
# that was skipped there is one.
#
# Needs: Python with torch, nvcc, g++. No network. Python packages that are missing are taken from wheels
# in bench/wheels, where that folder exists; on a machine with a network:
#     python -m pip download --only-binary=:all: --no-deps --python-version 3.12 -d bench/wheels \
#       --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --implementation cp \
#       cmake ninja pybind11 pytest pytest-benchmark py-cpuinfo pytest-timeout hypothesis sortedcontainers \
#       iniconfig pluggy packaging pygments safetensors av tyro typing_extensions
# The compiled module is put into nldf_engine/ of this checkout (git ignores it).
#
# Settings: PYTHON, OUT, GPU_ARCH (90a), GPU_SECONDS (540), GPU_NCU (SUITE:KERNEL ...: the kernel that
# ncu looks at, as a regular expression, and the bench that launches it).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

DRY=false
case "${1:-}" in
  "") ;;
  --dry-run) DRY=true ;;
  *) echo "usage: [OUT=folder] bash bench/gpu.sh [--dry-run]" >&2; exit 2 ;;
esac

PYTHON=${PYTHON:-python3}
WORK=$PWD/build/gpu
OUT=$(mkdir -p "${OUT:-$WORK/out}" && cd "${OUT:-$WORK/out}" && pwd) || exit 1
LIMIT=${GPU_SECONDS:-540}
rm -rf "$WORK/state"
mkdir -p "$WORK/state" "$WORK/site"
STEPS=$WORK/state/steps.jsonl
LOG=$OUT/log.txt
: >"$LOG"
rm -f "$OUT"/results.json "$OUT"/bench.html "$OUT"/golden.tar.gz "$OUT"/ncu_*.txt
export PYTHONPATH="$PWD:$WORK/site${PYTHONPATH:+:$PYTHONPATH}" PATH="$WORK/site/bin:$PATH"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
SECONDS=0
FAILED=0

record() { # name outcome seconds detail
  "$PYTHON" - "$@" >>"$STEPS" <<'PY'
import json, sys
name, outcome, seconds, detail = sys.argv[1:]
print(json.dumps({"step": name, "outcome": outcome, "seconds": int(seconds), "detail": detail}))
PY
  printf '%-34s %-8s %4s s  %s\n' "$@" | tee -a "$LOG"
}

skip() { record "$1" "not run" 0 "$2"; } # name reason

# Runs a command under a limit of its own and of the whole run; never stops the script.
step() { # name seconds command...
  local name=$1 most=$2 left=$((LIMIT - SECONDS)) began=$SECONDS code
  shift 2
  if ((left < 5)); then skip "$name" "the run's $LIMIT seconds are used up"; return 1; fi
  ((most > left)) && most=$left
  printf '\n=== %s: %s\n' "$name" "$*" >>"$LOG"
  timeout -k 5 "$most" "$@" >"$WORK/state/output" 2>&1 </dev/null
  code=$?
  cat "$WORK/state/output" >>"$LOG"
  if ((code == 0)); then record "$name" passed $((SECONDS - began)) ""; return 0; fi
  FAILED=1
  local why="exit code $code"
  ((code == 124 || code == 137)) && why="stopped after $most s"
  record "$name" failed $((SECONDS - began)) "$why: $(grep -v '^ *$' "$WORK/state/output" | tail -n 1 | cut -c -200)"
  return 1
}

# --- what is here ---------------------------------------------------------------------------------------

if compgen -G "bench/wheels/*.whl" >/dev/null; then
  step "install bench/wheels" 60 "$PYTHON" -m pip install -q --no-index --no-deps --upgrade \
    --target "$WORK/site" bench/wheels/*.whl
fi
step "environment" 120 "$PYTHON" bench/gpu.py environment "$WORK/state/environment.json"
NVCC=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
DEVICE=false
$DRY || { "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null && DEVICE=true; }
NO_DEVICE="no CUDA device on this machine"
$DRY && NO_DEVICE="dry run"

# --- build ----------------------------------------------------------------------------------------------

BUILT=false
if [ -z "$NVCC" ]; then
  skip "build" "no nvcc on PATH nor in /usr/local/cuda/bin"
  $DEVICE && FAILED=1
else
  step "configure" 60 cmake -S . -B "$WORK/cmake" -G Ninja -DNLDF_CUDA=ON -DNLDF_PTXAS_REPORT=ON \
    -DCMAKE_CUDA_COMPILER="$NVCC" -DCMAKE_CUDA_ARCHITECTURES="${GPU_ARCH:-90a}-real" \
    -DPython_EXECUTABLE="$(command -v "$PYTHON")" &&
    step "build" 300 cmake --build "$WORK/cmake" &&
    cp --remove-destination "$WORK"/cmake/_C*.so nldf_engine/ && # a process that has the old one open keeps it
    step "import" 60 "$PYTHON" bench/gpu.py check-import "$PWD" && BUILT=true
fi
if ! $BUILT; then
  $DEVICE && NO_DEVICE="the kernels weren't built"
  DEVICE=false
fi

# --- correctness: one process a file, because a fault on the device ends the process it happens in ---------

TEST=(-m pytest -q -p no:cacheprovider -o addopts=--import-mode=importlib -rs)
if $BUILT && ! $DEVICE; then
  step "checks can be collected" 120 "$PYTHON" "${TEST[@]}" --collect-only -k cuda tests/ops
fi
for file in tests/ops/test_*.py tests/rendering/test_portrait_pass.py; do
  grep -Eq "device|cuda" "$file" || continue # no test of it runs on a device
  name="check $(basename "$file" .py | sed s/^test_//)"
  if $DEVICE; then
    step "$name" 90 "$PYTHON" bench/gpu.py pytest-must-run "$PYTHON" "${TEST[@]}" --timeout 60 -k cuda "$file"
  else
    skip "$name" "$NO_DEVICE"
  fi
done

# --- outputs of the instruction wrappers, against which the emulator is checked -----------------------------

if [ ! -f tests/simt/golden.cu ]; then
  skip "golden outputs" "tests/simt/golden.cu is not in this checkout"
elif [ -z "$NVCC" ]; then
  skip "golden outputs" "no nvcc"
else
  mkdir -p "$WORK/state/golden"
  if step "golden outputs: build" 90 "$NVCC" -std=c++17 -arch=sm_90a -Icsrc -Itests/simt \
    tests/simt/golden.cu tests/simt/micro.cu -o "$WORK/state/golden.bin"; then
    if $DEVICE; then
      step "golden outputs" 30 "$WORK/state/golden.bin" "$WORK/state/golden" &&
        tar -czf "$OUT/golden.tar.gz" -C "$WORK/state" golden
    else
      skip "golden outputs" "$NO_DEVICE"
    fi
  fi
fi

# --- speed: the matrix product first, beside the suites, and again after them -------------------------------

if $DEVICE; then step "matmul" 60 "$PYTHON" bench/gpu.py matmul "$WORK/state/matmul_before.json"; else skip "matmul" "$NO_DEVICE"; fi
for file in bench/bench_*.py; do
  name="bench $(basename "$file" .py | sed s/^bench_//)"
  grep -Eq "def test_.*device|cuda" "$file" || { skip "$name" "it has no device to choose"; continue; }
  if $DEVICE; then
    step "$name" 60 "$PYTHON" "${TEST[@]}" --timeout 50 -k cuda "$file" --benchmark-only --benchmark-disable-gc \
      --benchmark-json "$WORK/state/bench_$(basename "$file" .py).json"
  else
    skip "$name" "$NO_DEVICE"
  fi
done
if $DEVICE; then step "matmul again" 60 "$PYTHON" bench/gpu.py matmul "$WORK/state/matmul_after.json"; else skip "matmul again" "$NO_DEVICE"; fi

# --- tools ------------------------------------------------------------------------------------------------

SANITIZER=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
for tool in memcheck racecheck; do
  if ! $DEVICE; then skip "sanitizer $tool" "$NO_DEVICE"
  elif [ -z "$SANITIZER" ]; then skip "sanitizer $tool" "compute-sanitizer is not on this machine"
  else
    step "sanitizer $tool" 100 "$SANITIZER" --tool "$tool" --error-exitcode 9 --kernel-regex kns=nldf \
      "$PYTHON" bench/gpu.py small 65
  fi
done
NCU=$(command -v ncu || ls /usr/local/cuda/bin/ncu 2>/dev/null)
for pair in ${GPU_NCU:-segments:segments_kernel resmlp_cuda:resmlp planes:planes_kernel portrait:portrait_kernel}; do
  suite=bench/bench_${pair%%:*}.py kernel=${pair#*:}
  if [ ! -f "$suite" ]; then skip "ncu $kernel" "$suite is not in this checkout"
  elif ! $DEVICE; then skip "ncu $kernel" "$NO_DEVICE"
  elif [ -z "$NCU" ]; then skip "ncu $kernel" "ncu is not on this machine"
  else
    step "ncu $kernel" 80 "$NCU" --clock-control none -k "regex:$kernel" -c 1 --section SpeedOfLight \
      --section Occupancy --section MemoryWorkloadAnalysis "$PYTHON" "${TEST[@]}" --benchmark-disable \
      -k cuda "$suite" &&
      cp "$WORK/state/output" "$OUT/ncu_$kernel.txt"
  fi
done

"$PYTHON" bench/gpu.py merge "$WORK/state" "$OUT/results.json" || FAILED=1
echo "$OUT/results.json: $SECONDS s in all"
exit $FAILED
