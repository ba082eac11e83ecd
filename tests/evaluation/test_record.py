"""What evaluation.json and judgements.json hold."""

import dataclasses
import json

import numpy as np
import pytest

from apo_jax.evaluation.record import (
  evaluation_record,
  judgements_record,
  read_measured,
  with_further,
)
from apo_jax.evaluation.standard import standard_numbers
from apo_jax.logs.files import json_text
from tests.evaluation.rounds import ROUND, random_round


def numbers_of(judged):
  return standard_numbers(judged, calibration_bins=4)


def kept(record):
  """A record as it comes back from its file."""
  return json.loads(json_text(record))


def test_what_is_read_back_is_what_was_measured():
  numbers = numbers_of(random_round(0))
  evaluation = kept(evaluation_record(1, numbers, {}, {}))
  read = read_measured(evaluation, kept(judgements_record(numbers)))
  other = numbers_of(random_round(1))
  record = evaluation_record(2, other, {}, {"previous": read})
  for measured, others in (
    (numbers.queries, other.queries),
    (numbers.preferences, other.preferences),
  ):
    for name, expected in others.minus(measured).items():
      found = record["differences"]["previous"][name]
      assert tuple(found.values()) == pytest.approx(tuple(expected)), name
      assert evaluation[name] == measured.estimates[name].value
      assert evaluation["standard_errors"][name] == measured.estimates[name].standard_error


def test_what_is_not_defined_is_null_with_a_null_error():
  judged = dataclasses.replace(ROUND, utilities=None, equals_golden=np.ones((2, 2), bool))
  numbers = numbers_of(judged)
  read = read_measured(
    kept(evaluation_record(0, numbers, {}, {})), kept(judgements_record(numbers))
  )
  record = kept(evaluation_record(1, numbers, {}, {"start": read}))
  for name in ("true_utility", "golden_margin"):
    assert record[name] is None and record["standard_errors"][name] is None
  nothing = {"difference": None, "standard_error": None}
  assert record["differences"]["start"]["golden_margin"] == nothing
  assert record["differences"]["start"]["testing_reward"]["difference"] == 0.0


def test_further_numbers():
  numbers, plain = with_further(numbers_of(ROUND), {}, {"words": np.array([2.0, 4.0]), "most": 5.0})
  record = evaluation_record(1, numbers, plain, {})
  assert (record["words"], record["standard_errors"]["words"]) == (3.0, 1.0)
  assert (record["most"], record["standard_errors"]["most"]) == (5.0, None)
  assert "most" not in judgements_record(numbers)["queries"]


@pytest.mark.parametrize(
  "name", ["testing_reward", "reward_ece", "true_utility", "round", "differences", "ids", "most"]
)
def test_a_name_that_is_taken_is_refused(name):
  with pytest.raises(ValueError, match=f"returns '{name}', which is the name of another number"):
    with_further(numbers_of(ROUND), {"most": 1.0}, {name: 1.0})


def test_values_of_other_queries_are_refused():
  with pytest.raises(ValueError, match=r"returns 'words' of shape \(3,\); .* each of the 2"):
    with_further(numbers_of(ROUND), {}, {"words": np.zeros(3)})
