"""The players' models and the judge's, and the lengths and layouts of the rows they read."""

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
    reward: the game's reward model.
    testing_reward: the judge's; the very same as `reward` where they do not differ, so that they
      share compiled functions.
    testing_trunk: the language model that the judge starts from; None where it has no shape of its
      own.
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
  testing_reward: Definition
  testing_trunk: Definition | None
  query_length: int
  row_lengths: tuple[int, ...]
  judged_length: int

  def of(self, player: Player) -> Definition:
    """A player's model."""
    found = getattr(self, player.kind)
    assert found is not None  # only a game with a testing trunk trains one
    return found

  @functools.cached_property
  def judging(self) -> "Models":
    """The same with the judge's model in the place of the game's reward model."""
    if self.testing_reward is self.reward:
      return self
    return dataclasses.replace(self, reward=self.testing_reward)

  def row_layout(self, definition: Definition, num_responses: int) -> RowLayout:
    """How one of the models reads training rows of so many responses to a query."""
    flops = functools.partial(row_flops, definition.architecture)
    return choose_layout(flops, num_responses, self.query_length, self.row_lengths)


def make_models(config: Config, origins: Origins, mesh: Mesh) -> Models:
  """The models that a config and the players' origins describe, without parameters."""
  data, sampling = config.data, config.sampling
  longest = data.query_length + max(data.response_length, sampling.training.max_new_tokens + 1)
  pooling, lora, judge = config.reward.pooling, config.reward.lora, config.testing_reward
  reward = testing_reward = define_reward_model(origins.reward, pooling, mesh, lora)
  if origins.testing_reward != origins.reward or (judge.has_own_start and lora.rank):
    testing_reward = define_reward_model(origins.testing_reward, pooling, mesh)
  return Models(
    origins=origins,
    mesh=mesh,
    policy=define_policy(origins.policy, mesh, config.policy.lora),
    reward=reward,
    testing_reward=testing_reward,
    testing_trunk=None if judge.shape is None else define_policy(origins.testing_reward, mesh),
    query_length=data.query_length,
    row_lengths=(*(length for length in data.row_buckets if length < longest), longest),
    judged_length=data.query_length + sampling.evaluation.max_new_tokens + 1,
  )
