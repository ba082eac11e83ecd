"""The rows that each training phase reads: records as fixed-shape arrays, and their layouts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from apo_jax.config.schema import Config
from apo_jax.data.records import Demonstration, Preference
from apo_jax.data.samples import SampledQuery
from apo_jax.data.tokenised import Tokenised
from apo_jax.objectives import PolicyLoss
from apo_jax.policy_step import PolicyBatch
from apo_jax.reward_step import RewardBatch
from apo_jax.rows.layouts import RowLayout
from apo_jax.rows.rows import NO_SCORE, Item, Response, Rows
from apo_jax.run.models import Models

GOLDEN_SCORE = 1.0
SAMPLE_SCORE = 0.0
# Of padding.
_NO_SUBSET = -1


def golden_layout(models: Models, config: Config) -> RowLayout:
  """The layout of golden responses, each with the policy's samples."""
  return models.golden_layout(config.sampling.training.num_samples)


def sample_layout(models: Models, config: Config) -> RowLayout:
  """The layout of the responses that the policy is trained on."""
  most = most_read(config)
  return (
    models.golden_sample_layout(most)
    if config.policy.loss.reads_golden
    else (models.sample_layout(most))
  )


def most_read(config: Config) -> int:
  """How many samples of a query the policy is trained on at most."""
  left = config.sampling.training.num_samples
  for selection in config.policy.selections:
    left = selection.most(left)
  return config.policy.loss.most_read(left)


class RankedItem(NamedTuple):
  """A query's responses as a reward model is trained on them.

  Attributes:
    item: what a row is made from.
    scores: one a response: the higher is better, equals are no pair.
    twins: samples that are the golden response itself, which are not in the row.
    subset: of preferences, the one that it belongs to, or "".
  """

  item: Item
  scores: Sequence[float]
  twins: int = 0
  subset: str = ""


def ranked_preference(preference: Tokenised[Preference]) -> RankedItem:
  """A human preference."""
  record = preference.record
  return RankedItem(preference.item, record.scores, subset=record.subset)


def ranked_golden(sampled: SampledQuery) -> RankedItem:
  """A golden response above the policy's samples that differ from it."""
  return _ranked_above(sampled.golden, sampled)


def ranked_supervised(supervised: SampledQuery, initial: SampledQuery) -> RankedItem:
  """A sample of the supervised start above the initial policy's that differ from it.

  It is the first that ended and says something: to rank what was cut off above anything would teach
  a reward model to like that. Where none of the query's did, nothing is ranked.
  """
  good = (one.response for one in supervised.samples if one.finished and not one.is_empty)
  best = next(good, None)
  if best is None:
    return RankedItem((initial.asked.query, ()), ())
  return _ranked_above(best, initial)


def _ranked_above(best: Response, sampled: SampledQuery) -> RankedItem:
  others = [one for one in sampled.responses if one.key != best.key]
  scores = [GOLDEN_SCORE, *(SAMPLE_SCORE for _ in others)]
  twins = len(sampled.responses) - len(others)
  return RankedItem((sampled.asked.query, (best, *others)), scores, twins)


def ranked_rows(
  layout: RowLayout, eos: int, ranked: Sequence[RankedItem | None], bucket: int
) -> tuple[Rows, Float[np.ndarray, "B R"]]:
  """Rows and scores of what a reward model is trained on; None is padding."""
  scores = np.full((len(ranked), layout.num_responses), NO_SCORE, np.float32)
  for row, one in enumerate(ranked):
    if one is not None:
      scores[row, : len(one.scores)] = one.scores
  return _rows(layout, eos, ranked, bucket), scores


def preference_batch(
  layout: RowLayout,
  eos: int,
  subsets: Sequence[str],
  ranked: Sequence[RankedItem | None],
  bucket: int,
) -> RewardBatch:
  """Preferences, and their places in `subsets`, if any are told apart; None is padding."""
  places = None
  if subsets:
    found = [_NO_SUBSET if one is None else subsets.index(one.subset) for one in ranked]
    places = np.array(found, np.int32)
  return RewardBatch(*ranked_rows(layout, eos, ranked, bucket), preference_subsets=places)


def golden_rows(
  layout: RowLayout, eos: int, ranked: Sequence[RankedItem | None], bucket: int
) -> tuple[Rows, Float[np.ndarray, "C K"], Float[np.ndarray, "C"]]:
  """Rows and scores of golden responses and samples, and the twins that are not among them."""
  twins = np.array([0 if one is None else one.twins for one in ranked], np.float32)
  return *ranked_rows(layout, eos, ranked, bucket), twins


def demonstration_batch(
  layout: RowLayout, eos: int, records: Sequence[Tokenised[Demonstration] | None], bucket: int
) -> PolicyBatch:
  """Rows of demonstrations, without rewards and reference; None is padding."""
  rows = _rows(layout, eos, records, bucket)
  present = np.array([[record is not None] for record in records])
  return PolicyBatch(rows, np.zeros(present.shape, np.float32), None, present)


class ScoredItem(NamedTuple):
  """A query's responses as a policy is trained on them.

  Attributes:
    item: what a row is made from.
    rewards: one a response, as they are shaped.
    reference_logprobs: one a response.
    earlier_logprobs: one a response; None where no loss reads them.
    has_golden: the first response is the golden one.
  """

  item: Item
  rewards: Sequence[float]
  reference_logprobs: Sequence[float]
  earlier_logprobs: Sequence[float] | None = None
  has_golden: bool = False


def scored_item(loss: PolicyLoss, sampled: SampledQuery) -> ScoredItem:
  """The samples that the policy's loss reads, those with a reference, and the golden response."""
  read = [sample for sample in sampled.samples if sample.reference_logprob is not None]
  responses = [sample.response for sample in read]
  rewards = [sample.shaped_reward for sample in read]
  reference_logprobs = [sample.reference_logprob for sample in read]
  earlier_logprobs = None
  if loss.reads_earlier_policy:
    earlier_logprobs = [sample.earlier_logprob for sample in read]
  if loss.reads_golden:
    responses.insert(0, sampled.golden)
    rewards.insert(0, sampled.golden_reward)
    reference_logprobs.insert(0, sampled.golden_reference_logprob)
  item = sampled.asked.query, tuple(responses)
  return ScoredItem(item, rewards, reference_logprobs, earlier_logprobs, loss.reads_golden)


def sample_batch(
  layout: RowLayout,
  eos: int,
  loss: PolicyLoss,
  scored: Sequence[ScoredItem | None],
  bucket: int,
) -> PolicyBatch:
  """All responses, with what the loss reads of them; None is padding."""
  shape = (len(scored), layout.num_responses)
  rewards, reference_logprobs = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  earlier_logprobs = np.zeros(shape, np.float32) if loss.reads_earlier_policy else None
  valid, golden = np.zeros(shape, bool), np.zeros(shape, bool)
  for row, one in enumerate(scored):
    if one is None:
      continue
    filled = row, slice(len(one.rewards))
    rewards[filled], reference_logprobs[filled] = one.rewards, one.reference_logprobs
    if earlier_logprobs is not None:
      earlier_logprobs[filled] = one.earlier_logprobs
    valid[filled], golden[row, 0] = True, one.has_golden
  return PolicyBatch(
    _rows(layout, eos, scored, bucket),
    rewards,
    reference_logprobs,
    valid,
    golden if loss.reads_golden else None,
    earlier_logprobs,
  )


def _rows(layout: RowLayout, eos: int, made_of: Sequence[Any], bucket: int) -> Rows:
  """The rows of what has an `item`; an item without responses where there is None."""
  return layout.rows([((), ()) if one is None else one.item for one in made_of], bucket, eos)
