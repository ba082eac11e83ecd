"""What the judgement of a round reads off its samples, without a model."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import SamplerConfig
from apo_jax.data.records import Demonstration
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.data.tokenised import tokenise_records
from apo_jax.evaluation.judged_round import Evaluation
from apo_jax.evaluation.standard import standard_numbers
from apo_jax.phases.evaluation import (
  kl_sampler,
  which_equal,
  with_further_evaluations,
)
from apo_jax.phases.responses import canonical
from tests import tiny
from tests.evaluation.rounds import ROUND

GOLDEN = " Ann owns the red box."


def sampled(*samples):
  """A query with samples of these ids, each finished or not."""
  codec = tiny.codec()
  record = Demonstration("q", "\n\nHuman: Who owns it?\n\nAssistant:", GOLDEN)
  (asked,) = tokenise_records(codec, [record])
  made = tuple(
    Sample(codec.decode(tokens), tuple(tokens), finished, logprob=0.0)
    for tokens, finished in samples
  )
  return SampledQuery(asked, made)


def ids_of(text):
  (ids,) = tiny.codec().form.response_ids([text])
  return ids


def test_equal_ids_are_one_response_if_both_ended():
  golden = ids_of(GOLDEN)
  query = sampled((golden, True), (golden, False), (golden[:-1], True))
  assert query.is_twin == (True, False, False)
  assert query.is_first == (True, True, True)
  other = dataclasses.replace(query, samples=query.samples[:1])
  assert which_equal([query], [other]).tolist() == [[[True], [False], [False]]]


def test_ids_that_their_text_is_not_tokenised_to():
  golden = ids_of(GOLDEN)
  letters = [piece for letter in GOLDEN for piece in ids_of(letter)]
  assert tiny.codec().decode(letters) == tiny.codec().decode(golden)
  query = sampled((golden, True), (letters, True), ([], True))
  assert canonical(tiny.codec(), [query]).tolist() == [[True, False, True]]


def test_a_kl_is_of_unfiltered_samples():
  plain = SamplerConfig(num_samples=2, max_new_tokens=9, stop=("\n",))
  assert kl_sampler(plain) == plain  # the evaluation's own samples will do
  one = dataclasses.replace(plain, num_samples=1)
  for filters in (
    {"temperature": 0.3},
    {"top_k": 5},
    {"top_p": 0.85},
    {"repetition_penalty": 1.05},
  ):
    assert kl_sampler(dataclasses.replace(plain, **filters)) == one


def test_a_further_evaluation_must_not_take_a_name(monkeypatch):
  monkeypatch.setattr(Evaluation, "known", dict(Evaluation.known))

  @dataclasses.dataclass(frozen=True)
  class Twice(Evaluation):
    name: ClassVar[str] = "twice"

    def __call__(self, judged):
      return {"testing_reward": 2.0 * float(np.mean(judged.rewards))}

  numbers = standard_numbers(ROUND, calibration_bins=2)
  message = "config.evaluation.evaluations holds 'twice', which returns 'testing_reward', .* new"
  with pytest.raises(ConfigError, match=message):
    with_further_evaluations((Twice(),), ROUND, numbers)
