"""What the batches of each training phase are made of."""

import numpy as np

from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.data.tokenised import tokenise_records
from apo_jax.phases.batches import (
  demonstration_batch,
  ranked_golden,
  ranked_preference,
  ranked_rows,
  sample_batch,
  select_samples,
)
from apo_jax.rows.layouts import RowLayout
from apo_jax.rows.rows import make_rows
from tests import tiny

CODEC = tiny.codec()
LENGTH = CODEC.query_length + CODEC.response_length
LAYOUT = RowLayout(3, False, (LENGTH,))
QUERY = "\n\nHuman: Who?\n\nAssistant:"


def sample(text, reward):
  (response,) = CODEC.encode_responses([text])
  return Sample(text, tuple(response.tokens), True, -1.0, reference_logprob=-2.0, reward=reward)


ANN, BEN, NOBODY = sample(" Ann.", 0.5), sample(" Ben.", -0.5), sample(" ", 9.0)


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


def test_a_golden_response_stands_before_the_samples():
  (golden,) = tokenise_records(CODEC, [Demonstration("g", QUERY, " It is Ann.")])
  ranked = ranked_golden(SampledQuery(golden, (ANN, BEN)))
  rows, scores = ranked_rows(LAYOUT, CODEC.eos, [ranked, None], 0)
  np.testing.assert_array_equal(scores, [[1.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
  assert_rows(rows, [(golden.query, [*golden.responses, ANN.response, BEN.response]), ((), ())])


def test_demonstrations_have_no_reference():
  (record,) = tokenise_records(CODEC, [Demonstration("g", QUERY, " Ann.")])
  batch = demonstration_batch(LAYOUT, CODEC.eos, [record, None], 0)
  assert batch.reference_logprobs is None
  np.testing.assert_array_equal(batch.valid, [[True], [False]])
  assert_rows(batch.rows, [record.item, ((), ())])


def test_samples_that_are_trained_on():
  (asked,) = tokenise_records(CODEC, [Query("q", QUERY)])
  config = tiny.config(policy__method="dpo", policy__pairs="best_worst").policy
  assert select_samples((BEN, NOBODY, ANN, BEN), config) == (ANN, BEN)
  assert select_samples((NOBODY,), config) == ()
  batch = sample_batch(LAYOUT, CODEC.eos, [SampledQuery(asked, (ANN, BEN)), None], 0)
  np.testing.assert_array_equal(batch.rewards, [[0.5, -0.5, 0.0], [0.0] * 3])
  np.testing.assert_array_equal(batch.reference_logprobs, [[-2.0, -2.0, 0.0], [0.0] * 3])
  np.testing.assert_array_equal(batch.valid, [[True, True, False], [False] * 3])
  assert_rows(batch.rows, [(asked.query, [ANN.response, BEN.response]), ((), ())])
