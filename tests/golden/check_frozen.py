"""Compares transformers, peft and bitsandbytes with the numbers of make_frozen.py.

    pip install torch transformers peft bitsandbytes
    python tests/golden/check_frozen.py OUTPUT

For each type of frozen weights, the exported adapters are put on the base checkpoint as PyTorch's
libraries hold it in that type, and must give the logits that they gave beside ours. The exported
whole model must be what PEFT makes when it merges them into the checkpoint as it is.
"""

import json
import pathlib
import sys

import bitsandbytes.functional as bitsandbytes
import peft
import torch
import transformers

TOLERANCE = 2e-4  # of the largest number


def main() -> None:
  transformers.utils.logging.set_verbosity_error()
  output = pathlib.Path(sys.argv[1])
  failed = []
  for frozen_dtype in ("float32", "bfloat16", "int8", "nf4"):
    numbers = json.loads((output / f"{frozen_dtype}.json").read_text())
    tokens, expected = torch.tensor(numbers["tokens"]), torch.tensor(numbers["logits"])
    adapters = output / "adapters" / frozen_dtype
    held = peft.PeftModel.from_pretrained(load(output / "base", frozen_dtype), adapters)
    merging = peft.PeftModel.from_pretrained(load(output / "base", "float32"), adapters)
    exported = load(output / "merged" / frozen_dtype, "float32")
    with torch.no_grad():
      beside = (held(tokens).logits - expected).abs().max()
      exact = merging(tokens).logits
    merged = merging.merge_and_unload().state_dict()
    whole = max((merged[name] - value).abs().max() for name, value in exported.state_dict().items())
    size = expected.abs().max()
    print(
      f"{frozen_dtype:9} logits up to {size:.1f}: {beside:.1e} from ours, merged weights"
      f" {whole:.1e}, the type's own error {(exact - expected).abs().max():.1e}"
    )
    if not (beside <= TOLERANCE * size and whole <= 1e-6):
      failed.append(frozen_dtype)
  if failed:
    sys.exit(f"Too far apart: {', '.join(failed)}")


def load(directory: pathlib.Path, frozen_dtype: str) -> torch.nn.Module:
  """A checkpoint with its weights held in a type, and computing in float32."""
  model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
  for name, parameter in model.named_parameters():
    projection = "_proj" in name
    if frozen_dtype == "nf4" and projection:
      # Not its layers: on CPUs they multiply in fewer bits.
      kept = bitsandbytes.quantize_4bit(parameter.data, blocksize=64, quant_type="nf4")
      parameter.data = bitsandbytes.dequantize_4bit(*kept)
    elif frozen_dtype == "int8" and projection:
      scale = parameter.data.abs().amax(1, keepdim=True) / 127
      parameter.data = (parameter.data / scale).round() * scale
    elif frozen_dtype == "bfloat16" or (frozen_dtype != "float32" and not projection):
      parameter.data = parameter.data.to(torch.bfloat16).to(torch.float32)
  return model.eval()


if __name__ == "__main__":
  main()
