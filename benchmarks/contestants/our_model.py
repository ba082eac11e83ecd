"""What all of our contestants build from: the mesh of one device, and the optimizer."""

import jax
from jax.sharding import Mesh

from apo_jax.config.schema import MeshConfig, TrainingConfig
from apo_jax.devices.sharding import make_mesh

# Peers are given the same optimizer.
TRAINING = TrainingConfig(batch_size=1, schedule="constant", warmup_steps=0, beta2=0.999)
STEPS = 1000  # of a constant schedule, so it makes no difference


def mesh() -> Mesh:
  """One device: peers run on one."""
  return make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
