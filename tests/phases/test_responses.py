"""What is read of a policy's samples, and what it learns from."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.data.records import Query
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.data.tokenised import tokenise_records
from apo_jax.inference.scoring import NotFinite
from apo_jax.objectives import DPO, RRHF, MissingEnd, PolicyLoss, RejectionSampling, Shaping
from apo_jax.phases.batches import scored_item
from apo_jax.phases.responses import (
  learnable,
  read_by,
  with_logprobs,
  with_shaped_rewards,
)
from tests import tiny

QUERY = "\n\nHuman: Who?\n\nAssistant:"


def sampled(*rewards, texts=None):
  """One query with a sample of each reward, one token longer than the one before."""
  (asked,) = tokenise_records(tiny.codec(), [Query("q", QUERY)])
  texts = texts or [f" {place}" for place in range(len(rewards))]
  samples = (
    Sample(text, (5,) * (place + 1), place % 2 == 0, -1.0, reward=reward)
    for place, (text, reward) in enumerate(zip(texts, rewards, strict=True))
  )
  return SampledQuery(asked, tuple(samples))


@pytest.mark.parametrize(
  ("loss", "expected"),
  [
    (RejectionSampling(), [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]),
    (DPO(), [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]),
    (DPO(pairs="best_rest"), [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]),
    (RRHF(), [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]),
  ],
  ids=str,
)
def test_what_a_loss_reads(loss, expected):
  """Of equal rewards the first is best and worst; an empty response is never read."""
  queries = [
    sampled(0.5, -0.5, 1.0, 0.0),
    sampled(9.0, 0.5, 0.5, 0.5, texts=["", " a", " b", " c"]),
    sampled(1.0, 2.0, 3.0, 4.0, texts=["", " ", "  ", "\n"]),
  ]
  shaped = with_shaped_rewards(queries, ())
  read = read_by(loss, shaped, learnable(shaped, "as_is"))
  np.testing.assert_array_equal(read, np.array(expected, bool))


@pytest.mark.parametrize(
  ("unfinished", "expected"),
  [
    # In each query the second and the fourth sample ran into the limit.
    ("as_is", [[1, 1, 1, 1], [0, 1, 0, 1]]),
    ("never_best", [[1, 0, 1, 1], [0, 1, 0, 1]]),
    ("drop", [[1, 0, 1, 0], [0, 0, 0, 0]]),
  ],
)
def test_an_unfinished_sample_is_never_best_where_a_finished_one_exists(unfinished, expected):
  queries = [sampled(0.5, 9.0, 1.0, 0.0), sampled(1.0, 2.0, 3.0, 4.0, texts=["", " a", "", " b"])]
  shaped = with_shaped_rewards(queries, ())
  read = read_by(RRHF(), shaped, learnable(shaped, unfinished))
  np.testing.assert_array_equal(read, np.array(expected, bool))


def test_equal_samples_are_read_once():
  """DPO paired them where rounding told their rewards apart."""
  one = sampled(0.5, 0.5, 1.0)
  twice = dataclasses.replace(one, samples=(one.samples * 2))
  for loss in (DPO(), DPO(pairs="all"), RRHF(), RejectionSampling()):
    (read,), (again,) = (
      read_by(loss, shaped, learnable(shaped, "as_is"))
      for shaped in (with_shaped_rewards([query], ()) for query in (one, twice))
    )
    np.testing.assert_array_equal(again, [*read, False, False, False])


def test_a_missing_end_has_its_price():
  (shaped,) = with_shaped_rewards([sampled(1.0, 2.0)], (MissingEnd(penalty=0.5),))
  assert [sample.shaped_reward for sample in shaped.samples] == [1.0, 1.5]


def test_a_shaping_that_gives_no_number_ends_the_phase():
  with pytest.raises(NotFinite, match="Of 2 responses, the reward as missing_end shapes it"):
    with_shaped_rewards([sampled(1.0, float("inf"))], (MissingEnd(penalty=0.5),))


@pytest.mark.parametrize(
  ("loss", "most"), [(RejectionSampling(), 1), (DPO(), 2), (DPO(pairs="all"), 4), (RRHF(), 4)]
)
def test_rows_have_room_for_what_is_read(loss, most):
  assert loss.most_read(4) == most
  assert loss.most_read(1) == 1


def test_without_shapings_the_policy_learns_from_the_rewards():
  (shaped,) = with_shaped_rewards([sampled(0.25, -1.5)], ())
  assert [sample.shaped_reward for sample in shaped.samples] == [0.25, -1.5]
  assert [sample.reward for sample in shaped.samples] == [0.25, -1.5]


def test_shapings_follow_each_other():
  known = dict(Shaping.known)

  @dataclasses.dataclass(frozen=True)
  class Double(Shaping):
    name: ClassVar[str] = "double"

    def __call__(self, samples):
      return 2 * samples.rewards

  @dataclasses.dataclass(frozen=True)
  class Unfinished(Shaping):
    name: ClassVar[str] = "unfinished"

    def __call__(self, samples):
      return jnp.where(samples.finished, samples.rewards, samples.rewards - samples.lengths)

  Shaping.known = known  # for others, as it was
  (shaped,) = with_shaped_rewards([sampled(1.0, 2.0)], (Double(), Unfinished()))
  assert [sample.shaped_reward for sample in shaped.samples] == [2.0, 4.0 - 2.0]
  assert [sample.reward for sample in shaped.samples] == [1.0, 2.0]


def test_only_what_is_wanted_has_a_reference():
  wanted = np.array([[False, True]])
  logprobs = np.array([[0.0, -3.5]])
  (one,) = with_logprobs([sampled(1.0, 2.0)], "reference_logprob", logprobs, wanted)
  assert [sample.reference_logprob for sample in one.samples] == [None, -3.5]
  assert scored_item(DPO(), one).rewards == [None]  # shaped later than here


def test_every_loss_of_a_config_is_asked_what_it_reads():
  assert all(loss().most_read(4) in (1, 2, 4) for loss in PolicyLoss.known.values())
