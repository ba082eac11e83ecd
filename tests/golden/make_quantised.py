"""Regenerates quantised.json: what bitsandbytes makes of a weight in 4 bits.

    python tests/golden/make_quantised.py      # where torch and bitsandbytes are installed

An independent implementation of nf4 (QLoRA, arXiv 2305.14314): its table, its blocks, its rounding.
The weight is [outputs, inputs], as PyTorch keeps it.
"""

import json
import pathlib

import bitsandbytes
import bitsandbytes.functional as library
import torch
from hugging_face_weights import weights

HERE = pathlib.Path(__file__).parent
NAME, SHAPE = "layers.0.mlp.up_proj.weight", (16, 192)


def main() -> None:
  """Writes the scales of all blocks, and the numbers that the codes stand for, in hexadecimals."""
  weight = torch.from_numpy(weights(NAME, SHAPE, 0.0))
  packed, state = library.quantize_4bit(weight, blocksize=64, quant_type="nf4")
  codes = "".join(f"{byte:02x}" for byte in packed.flatten().tolist())  # the first in the high bits
  made = {
    "made_by": f"bitsandbytes {bitsandbytes.__version__}",
    "name": NAME,
    "shape": SHAPE,
    "table": state.code.tolist(),
    "scales": state.absmax.tolist(),
    "codes": codes,
    "dequantised_sum": library.dequantize_4bit(packed, state).double().sum().item(),
  }
  (HERE / "quantised.json").write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
  main()
