"""The flags that all benchmarks share: the model, the peers, how often, where the JSON goes."""

import os
import platform
from pathlib import Path
from typing import Any

from absl import flags

FLAGS = flags.FLAGS

# SmolLM2-135M.
flags.DEFINE_integer("layers", 30, "Decoder layers.", lower_bound=1)
flags.DEFINE_integer("embed_dim", 576, "Features.", lower_bound=1)
flags.DEFINE_integer("heads", 9, "Query heads.", lower_bound=1)
flags.DEFINE_integer("kv_heads", 3, "Key and value heads; divides --heads.", lower_bound=1)
flags.DEFINE_integer("head_dim", 64, "Features a head, an even number.", lower_bound=2)
flags.DEFINE_integer("mlp_dim", 1536, "Features of the gated unit.", lower_bound=1)
flags.DEFINE_integer("vocab_size", 49152, "Tokens.", lower_bound=8)
flags.DEFINE_bool("tied_embeddings", True, "The output projection is the embedding's transpose.")
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of computing and of caches.")
flags.DEFINE_enum("remat", "dots", ["none", "dots", "full"], "What our backward pass recomputes.")

flags.register_validator(
  "head_dim", lambda size: size % 2 == 0, "must be even: rotary positions turn pairs of features."
)
flags.register_multi_flags_validator(
  ["heads", "kv_heads"],
  lambda values: values["heads"] % values["kv_heads"] == 0,
  "--kv_heads must divide --heads.",
)

flags.DEFINE_integer("repeats", 3, "Timed runs of each contestant.", lower_bound=1)
flags.DEFINE_string("trl_python", "", "The Python of an environment with TRL; else left out.")
flags.DEFINE_string("tunix_python", "", "The Python of an environment with Tunix; else left out.")
flags.DEFINE_string("json", "", "The JSON's path; runs/benchmarks/NAME.json if empty.")


def model() -> dict[str, Any]:
  """The model, as every contestant's job has it."""
  return {
    "shape": {
      "layers": FLAGS.layers,
      "embed_dim": FLAGS.embed_dim,
      "heads": FLAGS.heads,
      "kv_heads": FLAGS.kv_heads,
      "head_dim": FLAGS.head_dim,
      "mlp_dim": FLAGS.mlp_dim,
      "rope_theta": 100000.0,
      "norm_epsilon": 1e-5,
      "tied_embeddings": FLAGS.tied_embeddings,
    },
    "vocab_size": FLAGS.vocab_size,
    "dtype": FLAGS.dtype,
    "remat": FLAGS.remat,
  }


def case(*names: str) -> dict[str, Any]:
  """The values of a benchmark's own flags."""
  return {name: FLAGS[name].value for name in names}


def itemsize() -> int:
  """Bytes of a number in `--dtype`."""
  return {"float32": 4, "bfloat16": 2}[FLAGS.dtype]


def output(benchmark: str) -> Path:
  """Where the JSON goes."""
  return Path(FLAGS.json or f"runs/benchmarks/{benchmark}.json")


def surroundings() -> dict[str, Any]:
  """What the numbers depend on beside the flags."""
  return {
    "processor": platform.processor() or platform.machine(),
    "cores": len(os.sched_getaffinity(0)),
    "load": os.getloadavg()[0],  # at the end
    "repeats": FLAGS.repeats,
  }
