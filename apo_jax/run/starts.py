"""The weights that the players begin with, and those that stay frozen beside adapters."""

import jax
import jax.numpy as jnp

from apo_jax.config.schema import TrainingConfig
from apo_jax.models.definition import Definition, Parameters, join, merged, trunk_of
from apo_jax.models.hugging_face.config import Checkpoint
from apo_jax.models.hugging_face.importing import import_decoder, import_reward_head
from apo_jax.models.parameters import count, size_in_bytes
from apo_jax.models.reward_model import REWARD_HEAD
from apo_jax.run.origins import Origins


def frozen_policy(origins: Origins, policy: Definition) -> Parameters:
  """The policy's frozen parameters: none without adapters, else its checkpoint's."""
  if policy.lora is None:
    return {}
  abstract = policy.split(policy.abstract)[1]
  return import_decoder(_given(origins.policy_checkpoint), abstract, "config.model.checkpoint")


def frozen_reward(
  origins: Origins, policy: Definition, frozen_policy: Parameters, reward_model: Definition
) -> Parameters:
  """The reward model's frozen parameters; where they are the policy's too, the very same arrays."""
  if reward_model.lora is None:
    return {}
  trunk = reward_model.split(reward_model.abstract)[1]["trunk"]
  if origins.reward_checkpoint is not None:
    checkpoint, field = origins.reward_checkpoint, "config.reward.checkpoint"
    return {"trunk": import_decoder(checkpoint, trunk, field)}
  if policy.lora is not None:
    return {"trunk": _trunk_for(reward_model, frozen_policy)}
  checkpoint = _given(origins.policy_checkpoint)
  return {"trunk": import_decoder(checkpoint, trunk, "config.model.checkpoint")}


def first_policy(origins: Origins, policy: Definition, seed: int) -> Parameters:
  """What the policy's training begins with, the trained parameters alone."""
  if policy.lora is not None:
    return policy.init_part(seed, lambda parameters: policy.split(parameters)[0])
  if origins.policy_checkpoint is not None:
    checkpoint = origins.policy_checkpoint
    return import_decoder(checkpoint, policy.abstract, "config.model.checkpoint")
  return policy.init(seed)


def first_reward(
  origins: Origins,
  policy: Definition,
  reward_model: Definition,
  supervised: Parameters,
  seed: int,
) -> Parameters:
  """What the game's reward model begins with before the first round, its trained parameters alone.

  Its trunk is the checkpoint's where `reward.checkpoint` names one, else that of the policy after
  its supervised start, `supervised`. With adapters the trunk is frozen and its checkpoint's.
  """
  checkpoint, field = origins.reward_checkpoint, "config.reward.checkpoint"
  if reward_model.lora is not None:
    trained = reward_model.init_part(seed, lambda parameters: reward_model.split(parameters)[0])
    if checkpoint is None:
      return trained
    return trained | {REWARD_HEAD: _imported_head(checkpoint, reward_model, field)}
  if checkpoint is not None:
    return imported_reward(checkpoint, reward_model, field)
  if policy.lora is not None:
    supervised = _merged_masters(origins, policy, reward_model, supervised)
  return reward_on_trunk(supervised, reward_model, seed)


def _merged_masters(
  origins: Origins, policy: Definition, reward_model: Definition, parameters: Parameters
) -> Parameters:
  """A policy's trunk with its adapters merged, in the types in which it is to be trained.

  The weights under them are the checkpoint's own, read again: the frozen ones may be rounded.
  """
  checkpoint, field = _given(origins.policy_checkpoint), "config.model.checkpoint"
  abstract = reward_model.abstract["trunk"]
  base = import_decoder(checkpoint, abstract, field)
  whole = merged(join(policy.split(parameters)[0], base), policy.lora)
  return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), whole, abstract)


def imported_reward(checkpoint: Checkpoint, reward_model: Definition, field: str) -> Parameters:
  """A sequence classifier's trunk and head, all to be trained; `field` names its checkpoint."""
  trunk = import_decoder(checkpoint, reward_model.abstract["trunk"], field)
  return {"trunk": trunk, REWARD_HEAD: _imported_head(checkpoint, reward_model, field)}


def reward_on_trunk(language_model: Parameters, reward_model: Definition, seed: int) -> Parameters:
  """A new head on the trunk of a language model without adapters, all to be trained."""
  head = reward_model.init_part(seed, lambda parameters: parameters[REWARD_HEAD])
  return {"trunk": _trunk_for(reward_model, language_model), REWARD_HEAD: head}


def _trunk_for(reward_model: Definition, language_model: Parameters) -> Parameters:
  """A reward model's trunk, which keeps the language-model head where its definition has one."""
  if "head" in reward_model.abstract["trunk"]:
    return language_model
  return trunk_of(language_model)


def _imported_head(checkpoint: Checkpoint, reward_model: Definition, field: str) -> jax.Array:
  return import_reward_head(checkpoint, reward_model.abstract[REWARD_HEAD], field)


def share_frozen(origins: Origins, policy: Definition, reward_model: Definition) -> bool:
  """Whether both models' frozen parameters are one checkpoint's, kept once."""
  both_adapt = policy.lora is not None and reward_model.lora is not None
  return both_adapt and origins.reward_checkpoint is None


def describe(name: str, definition: Definition, training: TrainingConfig) -> str:
  """How much of a model is trained, and what the optimizer keeps of it, in one sentence."""
  trained, frozen = map(count, definition.split(definition.abstract))
  # Adam keeps a mean and a square of each, the square in float32.
  bytes_of_each = jnp.dtype(training.mean_dtype).itemsize + 4
  moments = f"{bytes_of_each * trained / 1e6:,.1f} MB of optimizer state"
  if definition.lora is None:
    return f"The {name} has {trained / 1e6:,.1f} M parameters, all trained: {moments}."
  return (
    f"The {name} has {frozen / 1e6:,.1f} M frozen parameters and {trained / 1e6:,.2f} M trained"
    f" ones: {moments}, where training all would take {bytes_of_each * frozen / 1e6:,.1f} MB."
  )


def describe_sharing(
  origins: Origins, policy: Definition, reward_model: Definition, testing_reward: Definition
) -> str | None:
  """Who shares one copy of the frozen parameters, in one sentence; None where nobody does."""
  if policy.lora is None:
    return None
  sharers = "The policy and its reference"
  if share_frozen(origins, policy, reward_model):
    models = "reward models" if testing_reward is reward_model else "reward model"
    sharers = f"The policy, its reference and the {models}"
  frozen = size_in_bytes(policy.split(policy.abstract)[1]) / 1e6
  return f"{sharers} share one copy of the frozen parameters, {frozen:,.1f} MB."


def _given(checkpoint: Checkpoint | None) -> Checkpoint:
  """Adapters without a checkpoint are refused with the config."""
  assert checkpoint is not None
  return checkpoint
