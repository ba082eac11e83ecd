"""What the batches of each training phase are made of."""

import dataclasses

import numpy as np

from apo_jax.data.records import Demonstration, Preference, Query, subsets_of
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.data.tokenised import tokenise_records
from apo_jax.objectives import DPO, SPIN, SequentialPO
from apo_jax.phases.batches import (
  demonstration_batch,
  golden_rows,
  preference_batch,
  ranked_golden,
  ranked_preference,
  ranked_rows,
  sample_batch,
  scored_item,
)
from apo_jax.rows.layouts import RowLayout
from apo_jax.rows.rows import make_rows
from tests import tiny

CODEC = tiny.codec()
LENGTH = CODEC.row_length
LAYOUT = RowLayout(3, False, (LENGTH,))
QUERY = "\n\nHuman: Who?\n\nAssistant:"


def sample(text, reward):
  (response,) = CODEC.encode_responses([text])
  tokens, shaped = tuple(response.tokens), None if reward is None else reward / 2
  return Sample(text, tokens, True, -1.0, -2.0, reward, shaped)


# Reward and shaped reward differ: it is the latter that the policy learns from.
ANN, BEN = sample(" Ann.", 1.0), sample(" Ben.", -1.0)
UNREAD = dataclasses.replace(sample(" Cid.", 9.0), reference_logprob=None)


def assert_rows(rows, items):
  expected = make_rows(items, LAYOUT.num_responses, LENGTH, CODEC.eos)
  for ours, theirs in zip(rows, expected, strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_preferences_and_padding():
  record = Preference("p", QUERY, (" Ann.", " Ben."), (0.25, 1.0))
  (preference,) = tokenise_records(CODEC, [record])
  rows, scores = ranked_rows(LAYOUT, CODEC.eos, [ranked_preference(preference), None], 0)
  np.testing.assert_array_equal(scores, [[0.25, 1.0, -1.0], [-1.0, -1.0, -1.0]])
  assert_rows(rows, [preference.item, ((), ())])


def test_a_preference_has_the_place_of_its_subset():
  records = [
    Preference(name, QUERY, (" Ann.", " Ben."), (0.0, 1.0), name) for name in ("b", "a", "b")
  ]
  assert subsets_of(records) == ("a", "b")
  ranked = [*map(ranked_preference, tokenise_records(CODEC, records)), None]
  batch = preference_batch(LAYOUT, CODEC.eos, ("a", "b"), ranked, 0)
  np.testing.assert_array_equal(batch.preference_subsets, [1, 0, 1, -1])
  rows, scores = ranked_rows(LAYOUT, CODEC.eos, ranked, 0)
  np.testing.assert_array_equal(batch.preference_scores, scores)
  np.testing.assert_array_equal(batch.preferences.tokens, rows.tokens)
  assert preference_batch(LAYOUT, CODEC.eos, (), ranked, 0).preference_subsets is None


def test_a_golden_response_stands_before_the_samples():
  (golden,) = tokenise_records(CODEC, [Demonstration("g", QUERY, " It is Ann.")])
  ranked = ranked_golden(SampledQuery(golden, (ANN, BEN)))
  rows, scores, twins = golden_rows(LAYOUT, CODEC.eos, [ranked, None], 0)
  np.testing.assert_array_equal(scores, [[1.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
  np.testing.assert_array_equal(twins, [0, 0])
  assert_rows(rows, [(golden.query, [*golden.responses, ANN.response, BEN.response]), ((), ())])


def test_a_sample_that_is_the_golden_response_is_no_pair():
  """A quarter to a half of the demo's pairs were such, told apart by rounding."""
  (golden,) = tokenise_records(CODEC, [Demonstration("g", QUERY, ANN.text)])
  unfinished = dataclasses.replace(ANN, finished=False)  # has no eos: another response
  ranked = ranked_golden(SampledQuery(golden, (ANN, unfinished, ANN)))
  rows, scores, twins = golden_rows(LAYOUT, CODEC.eos, [ranked], 0)
  np.testing.assert_array_equal(scores, [[1.0, 0.0, -1.0]])
  np.testing.assert_array_equal(twins, [2])
  assert_rows(rows, [(golden.query, [*golden.responses, unfinished.response])])


def test_demonstrations_have_no_reference():
  (record,) = tokenise_records(CODEC, [Demonstration("g", QUERY, " Ann.")])
  batch = demonstration_batch(LAYOUT, CODEC.eos, [record, None], 0)
  assert batch.reference_logprobs is None
  np.testing.assert_array_equal(batch.valid, [[True], [False]])
  assert_rows(batch.rows, [record.item, ((), ())])


def test_samples_that_are_trained_on():
  (asked,) = tokenise_records(CODEC, [Query("q", QUERY)])
  sampled = SampledQuery(asked, (ANN, UNREAD, BEN))
  batch = sample_batch(LAYOUT, CODEC.eos, DPO(), [scored_item(DPO(), sampled), None], 0)
  np.testing.assert_array_equal(batch.rewards, [[0.5, -0.5, 0.0], [0.0] * 3])
  np.testing.assert_array_equal(batch.reference_logprobs, [[-2.0, -2.0, 0.0], [0.0] * 3])
  np.testing.assert_array_equal(batch.valid, [[True, True, False], [False] * 3])
  assert batch.golden is None
  assert batch.earlier_logprobs is None
  assert_rows(batch.rows, [(asked.query, [ANN.response, BEN.response]), ((), ())])


def test_golden_responses_stand_before_the_samples():
  """As SPIN reads them; samples that nothing reads are left out."""
  (golden,) = tokenise_records(CODEC, [Demonstration("g", QUERY, " Cleo.")])
  sampled = SampledQuery(
    golden, (ANN, UNREAD, BEN), golden_reward=0.75, golden_reference_logprob=-4.0
  )
  batch = sample_batch(LAYOUT, CODEC.eos, SPIN(), [None, scored_item(SPIN(), sampled)], 0)
  np.testing.assert_array_equal(batch.rewards, [[0.0] * 3, [0.75, 0.5, -0.5]])
  np.testing.assert_array_equal(batch.reference_logprobs, [[0.0] * 3, [-4.0, -2.0, -2.0]])
  np.testing.assert_array_equal(batch.golden, [[False] * 3, [True, False, False]])
  np.testing.assert_array_equal(batch.valid, [[False] * 3, [True] * 3])
  responses = [*golden.responses, ANN.response, BEN.response]
  assert_rows(batch.rows, [((), ()), (golden.query, responses)])


def test_a_loss_may_read_the_policy_of_a_round_before():
  (asked,) = tokenise_records(CODEC, [Query("q", QUERY)])
  earlier = dataclasses.replace(ANN, earlier_logprob=-2.5)
  item = scored_item(SequentialPO(), SampledQuery(asked, (UNREAD, earlier)))
  batch = sample_batch(LAYOUT, CODEC.eos, SequentialPO(), [item], 0)
  np.testing.assert_array_equal(batch.earlier_logprobs, [[-2.5, 0.0, 0.0]])
