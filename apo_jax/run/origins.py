"""Where the players come from: the checkpoints that a config names, and their architectures."""

import dataclasses
import functools
from collections.abc import Callable

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.models.architecture import Architecture, architecture_from_shape
from apo_jax.models.hugging_face.config import (
  Checkpoint,
  read_architecture,
  resolve_directory,
)
from apo_jax.models.hugging_face.identity import checkpoint_sha256
from apo_jax.models.hugging_face.importing import TensorFiles


@dataclasses.dataclass(frozen=True)
class Origins:
  """What the players and their judge start from.

  Attributes:
    policy: the policy's architecture.
    policy_checkpoint: its weights; None where they start at random.
    reward: the architecture of the game's reward model.
    reward_checkpoint: its weights, head included; None where it starts from the policy's trunk.
    testing_reward: the judge's architecture.
    testing_reward_checkpoint: its own weights, head included; None where it has a shape of its own
      or starts as the game's reward model does.
  """

  policy: Architecture
  policy_checkpoint: Checkpoint | None
  reward: Architecture
  reward_checkpoint: Checkpoint | None
  testing_reward: Architecture
  testing_reward_checkpoint: Checkpoint | None

  @property
  def checkpoints(self) -> dict[str, Checkpoint]:
    """The checkpoints that there are, by the config field that names each."""
    named = {
      "config.model.checkpoint": self.policy_checkpoint,
      "config.reward.checkpoint": self.reward_checkpoint,
      "config.testing_reward.checkpoint": self.testing_reward_checkpoint,
    }
    return {field: checkpoint for field, checkpoint in named.items() if checkpoint is not None}

  @property
  def vocab_size(self) -> int:
    """Token ids that all of them know."""
    return min(one.vocab_size for one in (self.policy, self.reward, self.testing_reward))

  @functools.cached_property
  def fingerprints(self) -> dict[str, str]:
    """A hash of each checkpoint, by the config field that names it."""
    return {
      field: checkpoint_sha256(*checkpoint.directories)
      for field, checkpoint in self.checkpoints.items()
    }

  def split_sizes(self) -> dict[str, dict[str, int]]:
    """The sizes that a mesh may split, by the config field that gave the model."""
    found = {field: one.architecture.split_sizes() for field, one in self.checkpoints.items()}
    if self.policy_checkpoint is None:
      found["config.model"] = self.policy.split_sizes()
    if self.testing_reward_checkpoint is None and self.testing_reward != self.reward:
      found["config.testing_reward.shape"] = self.testing_reward.split_sizes()
    return found


def read_whole(field: str, name: str, config: Config) -> Checkpoint:
  """A checkpoint, downloaded where `name` is one of the hub, and its tensors looked at.

  Raises:
    ConfigError: it is not there, not whole, or not of a kind that can be imported.
  """
  checkpoint = read_architecture(resolve_directory(name, field), config.model, field)
  files = TensorFiles(checkpoint, field)  # checks every tensor's name, shape and type
  notes = (*checkpoint.notes, *files.notes)
  return dataclasses.replace(checkpoint, renamed=files.renamed, notes=notes)


def find_origins(
  config: Config, read: Callable[[str, str, Config], Checkpoint] = read_whole
) -> Origins:
  """The architectures and checkpoints that a config names; `read` reads a checkpoint.

  Raises:
    ConfigError: a checkpoint is not there, not whole, or not of a kind that can be imported.
  """
  policy_checkpoint = None
  if config.model.checkpoint:
    policy_checkpoint = read("config.model.checkpoint", config.model.checkpoint, config)
    policy = policy_checkpoint.architecture
    if policy_checkpoint.is_reward:
      raise ConfigError(
        f"config.model.checkpoint is {config.model.checkpoint!r}, a sequence classifier; it must be"
        " a language model (a reward model's field is config.reward.checkpoint)."
      )
  else:
    policy = architecture_from_shape(config.model, config.tokenizer.vocab_size)

  def read_classifier(field: str, name: str) -> Checkpoint | None:
    checkpoint = read(field, name, config) if name else None
    if checkpoint is not None and not checkpoint.is_reward:
      raise ConfigError(
        f"{field} is {name!r}, which is a language model; it must be a sequence-classification"
        " model with one label, or ''."
      )
    return checkpoint

  own = config.testing_reward
  reward_checkpoint = read_classifier("config.reward.checkpoint", config.reward.checkpoint)
  testing_checkpoint = read_classifier("config.testing_reward.checkpoint", own.checkpoint)
  reward = policy if reward_checkpoint is None else reward_checkpoint.architecture
  testing_reward = reward
  if testing_checkpoint is not None:
    testing_reward = testing_checkpoint.architecture
  elif own.shape is not None:
    model = dataclasses.replace(config.model, shape=own.shape)
    testing_reward = architecture_from_shape(model, policy.vocab_size)
  return Origins(
    policy, policy_checkpoint, reward, reward_checkpoint, testing_reward, testing_checkpoint
  )
