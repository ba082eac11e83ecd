#!/usr/bin/env bash
# Runs one command on every worker of a Cloud TPU slice:
#
#   launch/tpu_pod.sh --name=NAME --zone=ZONE [--python=python3.12] [--dry_run] -- \
#     --config=configs/demo.py --run_dir=gs://BUCKET/runs/demo
#
# sends the committed code to all workers, installs it with its extras for TPUs and for buckets in a
# virtual environment there, and runs `python -m apo_jax.main` with what follows `--`, and with --distributed.
# It ends when the run does, so start it in tmux or the like; the same command again continues the
# run. --run_dir must be a directory that all workers share: gs://BUCKET/DIRECTORY, or NFS; a mounted
# bucket is neither (docs/reliability.md). --python names the workers' interpreter, at least 3.11 and
# with its venv module; the default is python3.
# --dry_run prints the commands and runs none.
set -euo pipefail

usage='usage: launch/tpu_pod.sh --name=NAME --zone=ZONE [--python=PYTHON] [--dry_run] -- --config=FILE ...'

fail() {
  printf 'tpu_pod.sh: %s\n%s\n' "$1" "$usage" >&2
  exit 2
}

quoted() { # the arguments as one line that a shell reads as the same arguments
  local line
  printf -v line '%q ' "$@"
  printf '%s' "${line% }"
}

run() {
  if [[ $dry_run == true ]]; then
    quoted "$@"
    printf '\n'
  else
    "$@"
  fi
}

name='' zone='' python='python3' dry_run=false
while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --python=*) python=${1#*=} ;;
    --dry_run) dry_run=true ;;
    --) shift && break ;;
    *) fail "unknown argument '$1'; what the run itself is to get goes behind --." ;;
  esac
  shift
done
[[ -n $name ]] || fail 'the name of the TPU is missing; give it as --name=NAME.'
[[ -n $zone ]] || fail 'the zone of the TPU is missing; give it as --zone=ZONE.'
[[ -n $python ]] || fail '--python is empty; it must name an interpreter of the workers.'
(($#)) || fail 'the arguments of the run are missing; give them behind --.'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ $dry_run == false && -n $(git -C "$root" status --porcelain) ]]; then
  echo 'tpu_pod.sh: changes that are not committed are not sent.' >&2
fi

# Paths of the workers are relative to their home directory.
install="mkdir -p apo_jax && tar -xzf apo_jax.tar.gz -C apo_jax && cd apo_jax"
install+=" && $(quoted "$python" -m venv .venv) && $(quoted .venv/bin/pip install '.[tpu,gcs]')"
play="cd apo_jax && $(quoted .venv/bin/python -m apo_jax.main "$@" --distributed)"

tpu=(gcloud compute tpus tpu-vm)
all=("--zone=$zone" --worker=all)
run git -C "$root" archive --format=tar.gz "--output=$scratch/apo_jax.tar.gz" HEAD
run "${tpu[@]}" scp "$scratch/apo_jax.tar.gz" "$name:apo_jax.tar.gz" "${all[@]}"
run "${tpu[@]}" ssh "$name" "${all[@]}" "--command=$install"
run "${tpu[@]}" ssh "$name" "${all[@]}" "--command=$play"
