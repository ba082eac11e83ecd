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
  """What both players start from.

  Attributes:
    policy: the policy's architecture.
    policy_checkpoint: its weights; None where they start at random.
    reward: the reward model's architecture.
    reward_checkpoint: its weights, head included; None where it starts from the policy's trunk.
  """

  policy: Architecture
  policy_checkpoint: Checkpoint | None
  reward: Architecture
  reward_checkpoint: Checkpoint | None

  @functools.cached_property
  def fingerprints(self) -> dict[str, str]:
    """A hash of each checkpoint, by the config field that names it."""
    found = {}
    if self.policy_checkpoint is not None:
      found["config.model.checkpoint"] = checkpoint_sha256(self.policy_checkpoint.directory)
    if self.reward_checkpoint is not None:
      found["config.reward.checkpoint"] = checkpoint_sha256(self.reward_checkpoint.directory)
    return found

  def split_sizes(self) -> dict[str, dict[str, int]]:
    """The sizes that a mesh may split, by the config field that gave the model."""
    field = "config.model.checkpoint" if self.policy_checkpoint else "config.model"
    found = {field: self.policy.split_sizes()}
    if self.reward_checkpoint is not None:
      found["config.reward.checkpoint"] = self.reward.split_sizes()
    return found


def read_whole(field: str, name: str, config: Config) -> Checkpoint:
  """A checkpoint, downloaded where `name` is one of the hub, and its tensors looked at.

  Raises:
    ConfigError: it is not there, not whole, or not of a kind that can be imported.
  """
  checkpoint = read_architecture(resolve_directory(name, field), config.model, field)
  TensorFiles(checkpoint, field)  # checks every tensor's name, shape and type
  return checkpoint


def find_origins(
  config: Config, read: Callable[[str, str, Config], Checkpoint] = read_whole
) -> Origins:
  """The architectures and checkpoints that a config names; `read` reads a checkpoint.

  Raises:
    ConfigError: a checkpoint is not there, not whole, or not of a kind that can be imported.
  """
  policy_checkpoint = reward_checkpoint = None
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
  reward = policy
  if config.reward.checkpoint:
    reward_checkpoint = read("config.reward.checkpoint", config.reward.checkpoint, config)
    reward = reward_checkpoint.architecture
    if not reward_checkpoint.is_reward:
      raise ConfigError(
        f"config.reward.checkpoint is {config.reward.checkpoint!r}, which is a language model; it"
        " must be a sequence-classification model with one label, or '' to start from the policy."
      )
  return Origins(policy, policy_checkpoint, reward, reward_checkpoint)
