"""What the models take on a device, by their shapes alone: nothing is compiled or allocated."""

import collections
import dataclasses
import math
from typing import Any

import jax

from apo_jax.config.schema import Config, TrainingConfig
from apo_jax.models.definition import Definition
from apo_jax.models.parameters import count
from apo_jax.run.judge import training_of_judge
from apo_jax.run.models import Models
from apo_jax.run.starts import share_frozen
from apo_jax.training.optimization import abstract_state, make_optimizer

# Bytes by number type.
Bytes = dict[str, float]


@dataclasses.dataclass(frozen=True)
class ModelMemory:
  """What one model takes on each device, its share of the mesh.

  Attributes:
    name: whose it is.
    parameters, trained: how many numbers it has, and how many of them are trained.
    weights: bytes of the trained ones.
    optimizer: bytes of the optimizer's state.
    frozen: bytes of those that stay as they are.
    shares_frozen: these are the policy's, and counted there.
  """

  name: str
  parameters: int
  trained: int
  weights: Bytes
  optimizer: Bytes
  frozen: Bytes
  shares_frozen: bool

  @property
  def training(self) -> float:
    """Bytes while it is trained: weights, as many of gradients, optimizer state, frozen ones."""
    return 2 * total(self.weights) + total(self.optimizer) + total(self.frozen)


def memory_of(config: Config, models: Models) -> list[ModelMemory]:
  """That of the policy, the reward model and, where it is another model, the judge."""
  policy, reward, judge = models.policy, models.reward, models.testing_reward

  def shares(definition: Definition) -> bool:
    return share_frozen(models.origins, policy, definition)

  found = [
    _memory("policy", policy, config.policy.training, False),
    _memory("reward model", reward, config.reward.training, shares(reward)),
  ]
  if judge is not reward:
    training = training_of_judge(config)
    found.append(_memory("testing reward model", judge, training, shares(judge)))
  return found


def total(parts: Bytes) -> float:
  """Bytes of all types."""
  return float(sum(parts.values()))


def _memory(
  name: str, definition: Definition, training: TrainingConfig, shares_frozen: bool
) -> ModelMemory:
  trained, frozen = definition.split(definition.abstract)
  state = abstract_state(definition, make_optimizer(training, total_steps=1))
  return ModelMemory(
    name=name,
    parameters=count(definition.abstract),
    trained=count(trained),
    weights=_on_a_device(trained),
    optimizer=_on_a_device(state.optimizer_state),
    frozen=_on_a_device(frozen),
    shares_frozen=shares_frozen,
  )


def _on_a_device(tree: Any) -> Bytes:
  """Bytes of each type that one device holds of these arrays' descriptions, counters aside."""
  found: Bytes = collections.defaultdict(float)
  for leaf in jax.tree.leaves(tree):
    if not leaf.shape:
      continue
    numbers = math.prod(leaf.sharding.shard_shape(leaf.shape))
    found[leaf.dtype.name] += numbers * jax.dtypes.itemsize_bits(leaf.dtype) / 8
  return dict(found)
