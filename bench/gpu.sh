#!/usr/bin/env bash
# Builds, checks and times the CUDA kernels on the GPU of this machine, in one command that ends within
# 400 seconds:
#
#     OUT=results bash bench/gpu.sh            # OUT: where the results go; build/gpu/out by itself
#     bash bench/gpu.sh --dry-run              # without a GPU: the plan, the build, and what runs on the CPU
#
# What it does, in which order and in how much time stands in bench/gpu/steps.py; this script makes the environment.
#
# Needs: Python with torch, nvcc, g++, cmake, ninja, pybind11, pytest, pytest-benchmark. No network. Python packages
# that are missing are taken from wheels in bench/wheels, where that folder exists; on a machine with a network:
#     python -m pip download --only-binary=:all: --no-deps --python-version 3.12 -d bench/wheels \
#       --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --implementation cp av soxr
# Training is timed on a prepared dataset in bench/dataset (or where GPU_DATASET says). Where no more than 64 MiB may
# travel, what only nldf prepare and the front-end "whisper" need stays behind:
#     git sparse-checkout set --no-cone '/*' '!/docs/' '!/nldf_engine/assets/whisper.safetensors' \
#       '!/nldf_engine/assets/faces.safetensors'
# The compiled module is put into nldf_engine/ of this checkout (git ignores it).
#
# Settings: PYTHON, OUT, GPU_ARCH (90a), GPU_SECONDS (400; with more, for a machine of few cores, each step gets as
# much more), GPU_DATASET, GPU_COMMIT (the commit, where .git stays behind), GPU_NCU (SUITE:KERNEL ...: the kernel that
# ncu looks at, as a regular expression, and the bench that launches it).
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
site=$PWD/build/gpu/site
export PYTHONPATH="$PWD:$site${PYTHONPATH:+:$PYTHONPATH}" PATH="$site/bin:$PATH"
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec "$PYTHON" -m bench.gpu "$@"
