"""What each rematerialisation policy (`model.remat`) needs in memory and takes in time.

    python benchmarks/remat.py                        # a DPO step of SmolLM2-135M's shapes
    python benchmarks/remat.py --topology=v5e:2x2     # compiled for a TPU slice, memory alone

Prints a table and writes it as JSON. Memory is a device's, as the compiler plans it: arguments are
the training state, gradients and activations are temporaries. Times are medians of steps that take
turns, so that what else the machine does meets all of them.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.stages import Compiled

from apo_jax.config import MeshConfig, PolicyConfig, TrainingConfig
from apo_jax.data.rows import Response, make_rows
from apo_jax.models.architecture import Architecture, LayerKind, Rope
from apo_jax.models.definition import Definition, define_policy
from apo_jax.optimization import abstract_state, init_state, make_optimizer
from apo_jax.planning.devices import LOCAL, find_devices
from apo_jax.policy_step import PolicyBatch, make_policy_update
from apo_jax.sharding import make_mesh, place_batch

POLICIES = ("none", "dots", "full")
GIB = 2**30
TRAINING = TrainingConfig(
  epochs=1,
  batch_size=1,
  accumulation=1,
  learning_rate=1e-6,
  schedule="constant",
  warmup_steps=0,
  weight_decay=0.0,
  clip_norm=1.0,
  beta1=0.9,
  beta2=0.95,
)


def main() -> None:
  """Measures the policies at the shape of the command line."""
  options = _parser().parse_args()
  devices = find_devices(options.topology)
  mesh = make_mesh(MeshConfig(1, len(devices), 1), devices)
  here = options.topology == LOCAL
  seconds = dict.fromkeys(POLICIES)
  # Nothing can run on devices that are not there.
  with jax.set_mesh(mesh) if here else jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    compiled = {
      policy: _compile(_definition(policy, options, mesh), options) for policy in POLICIES
    }
    if here:
      seconds = _step_seconds(compiled, options, mesh)
  measured = {policy: _describe(compiled[policy], seconds[policy]) for policy in POLICIES}
  print(f"{'remat':<6}  arguments GiB  temporaries GiB  seconds a step")
  for policy, row in measured.items():
    took = "-" if row["seconds"] is None else f"{row['seconds']:.2f}"
    sizes = f"{row['arguments'] / GIB:>13.2f}  {row['temporaries'] / GIB:>15.2f}"
    print(f"{policy:<6}  {sizes}  {took:>14}")
  about = {"device": devices[0].device_kind, "devices": len(devices), **vars(options)}
  Path(options.output).write_text(json.dumps({"about": about, "policies": measured}, indent=2))


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(description="Measures model.remat at a given shape.")
  for name, default in (
    ("layers", 30),
    ("embed_dim", 576),
    ("heads", 9),
    ("kv_heads", 3),
    ("head_dim", 64),
    ("mlp_dim", 1536),
    ("vocab_size", 49152),
    ("pairs", 4),  # of responses, an update
    ("length", 256),  # tokens of query and response
    ("steps", 3),  # timed, of each policy
  ):
    parser.add_argument(f"--{name}", type=int, default=default, help=f"by default {default}")
  parser.add_argument("--compute_dtype", default="float32", choices=["float32", "bfloat16"])
  parser.add_argument("--topology", default=LOCAL, help="such as v5e:2x2; by default what is here")
  parser.add_argument("--output", default="remat.json", help="by default remat.json")
  return parser


def _definition(policy: str, options: argparse.Namespace, mesh: Mesh) -> Definition:
  sizes = ("vocab_size", "embed_dim", "heads", "kv_heads", "head_dim", "mlp_dim")
  architecture = Architecture(
    **{name: getattr(options, name) for name in sizes},
    kinds=(LayerKind(Rope(10000.0)),) * options.layers,
    norm_epsilon=1e-5,
    tied_embeddings=True,
    query_scale=options.head_dim**-0.5,
    remat=policy,
    compute_dtype=options.compute_dtype,
    attention="auto",
  )
  return define_policy(architecture, mesh)


def _batch(options: argparse.Namespace) -> PolicyBatch:
  """Pairs of random responses, as long as three fifths of their rows, to random queries."""
  rng = np.random.default_rng(0)
  query = options.length * 2 // 5
  items = []
  for _ in range(options.pairs):
    tokens = rng.integers(1, options.vocab_size, (3, options.length))
    responses = [Response(row[query:-1].tolist()) for row in tokens[:2]]
    items.append((tokens[2, :query].tolist(), responses))
  shape = (options.pairs, 2)
  rewards = rng.normal(size=shape).astype(np.float32)
  rows = make_rows(items, 2, options.length, 0)
  return PolicyBatch(rows, rewards, np.zeros(shape, np.float32), np.ones(shape, bool))


def _compile(definition: Definition, options: argparse.Namespace) -> Compiled:
  mesh = jax.tree.leaves(definition.shardings)[0].mesh
  optimizer = make_optimizer(TRAINING, 1)
  update = make_policy_update(definition, optimizer, _dpo(), mesh, accumulation=1)
  batch = _batch(options)
  batch = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), batch)
  return update.lower(abstract_state(definition, optimizer), batch).compile()


def _dpo() -> PolicyConfig:
  return PolicyConfig(
    lora=None,
    method="dpo",
    start="previous",
    reference="round_start",
    beta=0.1,
    pairs="best_worst",
    sft_coefficient=1.0,
    training=TRAINING,
  )


def _step_seconds(
  compiled: dict[str, Compiled], options: argparse.Namespace, mesh: Mesh
) -> dict[str, float]:
  """The median time of a step by each policy; all go on from one state."""
  definition = _definition("full", options, mesh)
  state = init_state(definition, make_optimizer(TRAINING, 1), definition.init(0))
  batch = place_batch(mesh, _batch(options), options.pairs)
  taken: dict[str, list[float]] = {policy: [] for policy in compiled}
  for turn in range(options.steps + 1):
    for policy, step in compiled.items():
      began = time.perf_counter()
      state, metrics = step(state, batch)
      jax.block_until_ready((state, metrics))
      if turn:  # the first is for warming up
        taken[policy].append(time.perf_counter() - began)
  return {policy: statistics.median(times) for policy, times in taken.items()}


def _describe(compiled: Compiled, seconds: float | None) -> dict[str, Any]:
  sizes = compiled.memory_analysis()
  return {
    "arguments": sizes.argument_size_in_bytes,
    "temporaries": sizes.temp_size_in_bytes,
    "seconds": seconds,
  }


if __name__ == "__main__":
  main()
