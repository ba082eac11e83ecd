"""What all of our contestants build from: the mesh of one device, and a recipe."""

import dataclasses

import jax
from jax.sharding import Mesh

from apo_jax.config.checks import from_config_dict
from apo_jax.config.schema import Config, MeshConfig, PolicyConfig, RewardConfig, TrainingConfig
from apo_jax.devices.sharding import make_mesh
from configs.demo import get_config

# Peers are given the same optimizer.
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
  beta2=0.999,
)
STEPS = 1000  # of a constant schedule, so it makes no difference


def mesh() -> Mesh:
  """One device: peers run on one."""
  return make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])


def recipe() -> Config:
  """The demo's, for the fields that a benchmark does not set."""
  return from_config_dict(get_config())


def policy_config(method: str) -> PolicyConfig:
  """A policy step of this method; DPO at the peers' default strength."""
  return dataclasses.replace(
    recipe().policy, method=method, pairs="best_worst", beta=0.1, sft_coefficient=1.0
  )


def reward_config() -> RewardConfig:
  """A reward step on ranked responses alone, a mean over their pairs."""
  return dataclasses.replace(
    recipe().reward, kind="ranking", reduction="mean", preference_coefficient=1.0
  )
