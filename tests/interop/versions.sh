#!/usr/bin/env bash
# What is tested with the newest lm-evaluation-harness, under other versions too:
#
#     tests/interop/versions.sh [VERSION ...]
#
# Each gets a virtual environment of its own, on top of the one that runs this; 0.4.10 is the oldest that runs with
# transformers 5.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- 0.4.10 0.4.12 0.4.13
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
outer="$(python -c "$purelib")"
for version in "$@"; do
    python -m venv "$scratch/$version"
    python="$scratch/$version/bin/python"
    echo "$outer" >"$("$python" -c "$purelib")/outer.pth" # after the environment's own packages
    "$python" -m pip install --quiet --no-deps "lm_eval==$version"
    echo "== lm_eval $("$python" -c 'from importlib.metadata import version; print(version("lm_eval"))')"
    "$python" -m pytest -q tests/evaluation/test_lm_eval.py tests/evaluation/test_harness_model.py
done
