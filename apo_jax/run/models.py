"""The players' models and the judge's, and the lengths and layouts of the rows they read."""

import dataclasses
import functools

from jax.sharding import Mesh

from apo_jax.config.lengths import judged_length
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
    row_lengths: padded lengths of training rows of one response, ascending. The last is
      `data.row_length`.
    sample_length: tokens of the longest query and training sample, with eos.
    judged_length: tokens of the longest row of the test side, whose samples may be much longer than
      those of training.
  """

  origins: Origins
  mesh: Mesh
  policy: Definition
  reward: Definition
  testing_reward: Definition
  testing_trunk: Definition | None
  query_length: int
  row_lengths: tuple[int, ...]
  sample_length: int
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

  def row_layout(
    self, definition: Definition, num_responses: int, longest_shared: int = 0
  ) -> RowLayout:
    """How one of the models reads training rows of so many responses of texts to a query.

    Args:
      longest_shared: the places that all of a query's need at most, where that is more than the
        longest query and as many responses as a row holds behind it.
    """
    usual = self.query_length + num_responses * (self.row_lengths[-1] - self.query_length)
    return self._layout(
      definition, num_responses, self.row_lengths, max(usual, -(-longest_shared // 8) * 8)
    )

  def golden_layout(self, num_samples: int) -> RowLayout:
    """How the reward model reads golden responses, each with so many samples."""
    return self._golden_layout(self.reward, num_samples)

  def sample_layout(self, num_samples: int) -> RowLayout:
    """How the policy reads so many samples to a query."""
    shorter = (length for length in self.row_lengths if length < self.sample_length)
    return self._layout(self.policy, num_samples, (*shorter, self.sample_length), None)

  def golden_sample_layout(self, num_samples: int) -> RowLayout:
    """How the policy reads golden responses, each with so many samples."""
    return self._golden_layout(self.policy, num_samples)

  def _golden_layout(self, definition: Definition, num_samples: int) -> RowLayout:
    # A golden response with its query fits a row.
    longest = self.row_lengths[-1] + num_samples * (self.sample_length - self.query_length)
    return self._layout(definition, 1 + num_samples, self.row_lengths, longest)

  def _layout(
    self,
    definition: Definition,
    num_responses: int,
    lengths: tuple[int, ...],
    longest_shared: int | None,
  ) -> RowLayout:
    flops = functools.partial(row_flops, definition.architecture)
    return choose_layout(flops, num_responses, self.query_length, lengths, longest_shared)


def make_models(config: Config, origins: Origins, mesh: Mesh) -> Models:
  """The models that a config and the players' origins describe, without parameters."""
  data, sampling = config.data, config.sampling
  pooling, lora, judge = config.reward.pooling, config.reward.lora, config.testing_reward
  head = config.reward.needs_language_head
  reward = testing_reward = define_reward_model(
    origins.reward, pooling, mesh, lora, language_head=head
  )
  # A sequence classifier brings none of its own, and a judge that is not trained needs none.
  judge_head = head and origins.testing_reward_checkpoint is None
  is_other = origins.testing_reward != origins.reward or judge_head != head
  if is_other or (judge.has_own_start and lora.rank):
    testing_reward = define_reward_model(
      origins.testing_reward, pooling, mesh, language_head=judge_head
    )
  return Models(
    origins=origins,
    mesh=mesh,
    policy=define_policy(origins.policy, mesh, config.policy.lora),
    reward=reward,
    testing_reward=testing_reward,
    testing_trunk=None if judge.shape is None else define_policy(origins.testing_reward, mesh),
    query_length=data.query_length,
    row_lengths=(*(one for one in data.row_buckets if one < data.row_length), data.row_length),
    sample_length=data.query_length + sampling.training.max_new_tokens + 1,
    judged_length=judged_length(config),
  )
