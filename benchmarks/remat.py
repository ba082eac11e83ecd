"""What each rematerialisation policy (`model.remat`) needs in memory and takes in time.

    python -m benchmarks.remat                        # a DPO step of SmolLM2-135M's shapes
    python -m benchmarks.remat --topology=v5e:2x2     # compiled for a TPU slice, memory alone

Memory is a device's, as the compiler plans it: arguments are the training state, gradients and
activations are temporaries. Times are medians of steps that take turns, so that what else the
machine does meets all of them. `--remat` is not read: every policy is measured.
"""

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from absl import app, flags
from jax.sharding import Mesh
from jax.stages import Compiled

from apo_jax.config.schema import MeshConfig
from apo_jax.devices.sharding import make_mesh, place_batch
from apo_jax.models.definition import Definition, define_policy
from apo_jax.plan.devices import LOCAL, find_devices
from apo_jax.policy_step import PolicyBatch, make_policy_update
from apo_jax.training.optimization import init_state, lower_update, make_optimizer
from benchmarks import data, pairs, report, settings
from benchmarks.contestants.our_batches import policy_batch
from benchmarks.contestants.our_model import STEPS, TRAINING, policy_config
from benchmarks.model import architecture

FLAGS = flags.FLAGS

POLICIES = ("none", "dots", "full")
GIB = 2.0**30

flags.DEFINE_string("topology", LOCAL, "A TPU slice such as v5e:2x2; by default what is here.")


def main(argv: Sequence[str]) -> None:
  """Measures the policies at the shape of the command line."""
  del argv
  here = FLAGS.topology == LOCAL
  if not here:
    jax.config.update("jax_platforms", "cpu")  # else libtpu looks for a TPU of its own
  devices = find_devices(FLAGS.topology)
  mesh = make_mesh(MeshConfig(1, len(devices), 1), devices)
  seconds: Mapping[str, float | None] = dict.fromkeys(POLICIES)
  # Nothing can run on devices that are not there.
  with jax.set_mesh(mesh) if here else jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    compiled = {policy: _compile(_definition(policy, mesh), mesh) for policy in POLICIES}
    if here:
      seconds = _step_seconds(compiled, mesh)
  rows, measured = [], {}
  for policy in POLICIES:
    sizes, took = compiled[policy].memory_analysis(), seconds[policy]
    arguments, temporaries = sizes.argument_size_in_bytes, sizes.temp_size_in_bytes
    measured[policy] = {"arguments": arguments, "temporaries": temporaries, "seconds": took}
    step = "-" if took is None else f"{took:.2f}"
    rows.append([policy, f"{arguments / GIB:.2f}", f"{temporaries / GIB:.2f}", step])
  text = report.table(["remat", "arguments GiB", "temporaries GiB", "seconds a step"], rows)
  case = pairs.case() | {"device": devices[0].device_kind, "devices": len(devices)}
  report.finish("remat", case, text, {"policies": measured})


def _definition(policy: str, mesh: Mesh) -> Definition:
  return define_policy(dataclasses.replace(architecture(settings.model()), remat=policy), mesh)


def _batch() -> PolicyBatch:
  sizes = FLAGS.query_tokens, FLAGS.response_tokens, FLAGS.vocab_size
  reference = np.zeros((FLAGS.pairs, pairs.PAIR), np.float32)
  return policy_batch(data.items(FLAGS.pairs, pairs.PAIR, *sizes), reference)


def _compile(definition: Definition, mesh: Mesh) -> Compiled:
  optimizer = make_optimizer(TRAINING, STEPS)
  update = make_policy_update(definition, optimizer, policy_config("dpo"), mesh, accumulation=1)
  return lower_update(update, definition, optimizer, _batch()).compile()


def _step_seconds(compiled: Mapping[str, Compiled], mesh: Mesh) -> dict[str, float]:
  """The median time of a step by each policy; all go on from one state."""
  definition = _definition("full", mesh)
  state = init_state(definition, make_optimizer(TRAINING, STEPS), definition.init(0))
  batch = place_batch(mesh, _batch(), FLAGS.pairs)
  taken: dict[str, list[float]] = {policy: [] for policy in compiled}
  for turn in range(FLAGS.repeats + 1):
    for policy, step in compiled.items():
      began = time.perf_counter()
      state, metrics = step(state, batch, {}, np.zeros(2, np.uint32))
      jax.block_until_ready((state, metrics))
      if turn:  # the first is for warming up
        taken[policy].append(time.perf_counter() - began)
  return {policy: statistics.median(times) for policy, times in taken.items()}


if __name__ == "__main__":
  app.run(main)
