"""How long our programs take to be traced and compiled."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.stages import Lowered

from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import make_reward_update
from apo_jax.training.optimization import lower_update, make_optimizer
from benchmarks.contestants import our_batches, our_sampling
from benchmarks.contestants.our_model import STEPS, TRAINING, mesh, policy_config, reward_config
from benchmarks.model import architecture


def compilation(job: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
  """Seconds of a DPO step, a reward step and sampling; a process can be asked once.

  Nothing is computed. All but the shapes of parameters is as in the timed steps.
  """
  shape = architecture(job["model"])
  jax.jit(lambda: 0)()  # the first program of a process starts the compiler

  def policy_step() -> list[Lowered]:
    definition, optimizer = define_policy(shape, mesh()), make_optimizer(TRAINING, STEPS)
    update = make_policy_update(definition, optimizer, policy_config("dpo"), mesh(), accumulation=1)
    batch = our_batches.policy_batch(job["items"], None)
    batch = batch._replace(reference_logprobs=batch.rewards)
    return [lower_update(update, definition, optimizer, batch)]

  def reward_step() -> list[Lowered]:
    definition = define_reward_model(shape, "eos", mesh())
    optimizer = make_optimizer(TRAINING, STEPS)
    update = make_reward_update(
      definition, optimizer, reward_config(), mesh(), num_samples=1, accumulation=1
    )
    batch = our_batches.reward_batch(job["items"])
    return [lower_update(update, definition, optimizer, batch)]

  def sampling() -> list[Lowered]:
    config, width = our_sampling.sampling_config(job), len(job["queries"][0])
    return list(our_sampling.make_sampler(job).lowered(config, width))

  programs = {"DPO step": policy_step, "reward step": reward_step, "sampling": sampling}
  return lambda: {name: _seconds(lower) for name, lower in programs.items()}


def _seconds(lower: Callable[[], list[Lowered]]) -> float:
  began = time.perf_counter()
  for lowered in lower():
    lowered.compile()
  return time.perf_counter() - began
