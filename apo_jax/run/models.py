"""Both players' models, and the lengths and layouts of the rows that they read."""

import dataclasses
import functools

from jax.sharding import Mesh

from apo_jax.config.schema import Config
from apo_jax.models.definition import Definition, define_policy, define_reward_model
from apo_jax.models.row_cost import row_flops
from apo_jax.rows.layouts import RowLayout, choose_layout
from apo_jax.run.origins import Origins
from apo_jax.run.players import Player


@dataclasses.dataclass(frozen=True, eq=False)
class Models:
  """The models of a run; equal to themselves alone.

  Attributes:
    origins: what they start from.
    mesh: the device mesh.
    policy: the policy's model.
    reward: the reward model, of training and of testing alike.
    query_length: tokens of the longest query.
    row_lengths: padded lengths of training rows of one response, ascending. The last holds the
      longest query, and the longest response or sample with eos.
    judged_length: tokens of the longest query and sample of an evaluation, with eos. They may be
      much longer than those of training.
  """

  origins: Origins
  mesh: Mesh
  policy: Definition
  reward: Definition
  query_length: int
  row_lengths: tuple[int, ...]
  judged_length: int

  def of(self, player: Player) -> Definition:
    """A player's model."""
    return self.policy if player.is_policy else self.reward

  def row_layout(self, definition: Definition, num_responses: int) -> RowLayout:
    """How one of the models reads training rows of so many responses to a query."""
    flops = functools.partial(row_flops, definition.architecture)
    return choose_layout(flops, num_responses, self.query_length, self.row_lengths)


def make_models(config: Config, origins: Origins, mesh: Mesh) -> Models:
  """The models that a config and the players' origins describe, without parameters."""
  data, sampling, reward = config.data, config.sampling, config.reward
  longest = data.query_length + max(data.response_length, sampling.training.max_new_tokens + 1)
  return Models(
    origins=origins,
    mesh=mesh,
    policy=define_policy(origins.policy, mesh, config.policy.lora),
    reward=define_reward_model(origins.reward, reward.pooling, mesh, reward.lora),
    query_length=data.query_length,
    row_lengths=(*(length for length in data.row_buckets if length < longest), longest),
    judged_length=data.query_length + sampling.evaluation.max_new_tokens + 1,
  )
