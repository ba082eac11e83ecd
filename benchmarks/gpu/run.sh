#!/usr/bin/env bash
# The check of the project on a GPU, see README.md beside this file.
#
#   benchmarks/gpu/run.sh [--wheels=DIR] [--stages=a,b] [--seconds=480] [--output=DIR] [--smollm2=DIR]
#   benchmarks/gpu/run.sh --platform=cpu --tiny
#
# --wheels installs every wheel of a folder beside the Python's own packages, from no network; they
# come before its own. All other options go to benchmarks/gpu/check.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=${PYTHON:-python3}
arguments=()
for argument in "$@"; do
  case $argument in
    --wheels=*) wheels=${argument#--wheels=} ;;
    *) arguments+=("$argument") ;;
  esac
done

if [[ -n ${wheels:-} ]]; then
  compgen -G "$wheels/*.whl" >/dev/null || {
    echo "--wheels=$wheels: there is no wheel in this folder." >&2
    exit 1
  }
  site=${TMPDIR:-/tmp}/apo_jax_gpu/site
  names=$(cd "$wheels" && ls ./*.whl)
  if [[ $(cat "$site/.wheels" 2>/dev/null) != "$names" ]]; then
    rm -rf "$site"
    "$python" -m pip install --quiet --no-index --no-deps --no-cache-dir --no-compile \
      --disable-pip-version-check --upgrade --target "$site" "$wheels"/*.whl
    echo "$names" >"$site/.wheels"
  fi
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi

exec "$python" -m benchmarks.gpu.check ${arguments[@]+"${arguments[@]}"}
