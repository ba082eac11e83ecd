"""Each warning on both sides of its threshold, which is healthy itself."""

import pytest

from apo_jax.evaluation.health.clipping import are_clipped
from apo_jax.evaluation.health.divergence import explodes, is_far
from apo_jax.evaluation.health.forgetting import forgets_preferences
from apo_jax.evaluation.health.length import follows_length, separates_by_length
from apo_jax.evaluation.health.responses import (
  are_alike,
  are_empty,
  are_unfinished,
  repeat_themselves,
)
from apo_jax.evaluation.health.separation import separates_perfectly


def test_no_gradient_is_left():
  assert separates_perfectly(0.01, 0.01, "ranking") is None
  found = separates_perfectly(0.004, 0.01, "ranking")
  assert found[:3] == ("no_gradient_left", 0.004, 0.01)
  assert "is 0.004, below 0.01" in found.sentence
  assert 'config.reward.start="base"' in found.sentence
  # The difference of rewards has a gradient wherever the margin is.
  difference = separates_perfectly(0.004, 0.01, "difference").sentence
  assert "has no limit" in difference and 'config.reward.apo.kind="ranking"' in difference


@pytest.mark.parametrize(("correlation", "prefers"), [(0.71, "longer"), (-0.9, "shorter")])
def test_rewards_follow_length_to_either_side(correlation, prefers):
  found = follows_length(correlation, 0.7, "these samples")
  assert found.value == correlation and f"prefers {prefers} responses" in found.sentence
  assert "among these samples" in found.sentence
  assert follows_length(0.7, 0.7, "these samples") is None
  assert follows_length(-0.7, 0.7, "these samples") is None


def test_golden_and_samples_are_ordered_by_length_alone():
  found = separates_by_length(0.97, 0.95, accuracy=0.9, longer_wins=0.92)
  assert found[:3] == ("separates_by_length", 0.97, 0.95)
  assert "97.0% of the pairs that differ in length the longer one" in found.sentence
  assert "0.900, that of preferring the longer one 0.920" in found.sentence
  shorter = separates_by_length(0.03, 0.95, accuracy=0.9, longer_wins=0.125)
  assert shorter.value == pytest.approx(0.97)
  assert "the shorter one has" in shorter.sentence and "0.875" in shorter.sentence
  # However accurate both are, what they disagree on is not length alone.
  for healthy in (0.95, 0.5, 0.05):
    assert separates_by_length(healthy, 0.95, accuracy=0.9, longer_wins=0.9) is None


def test_preferences_are_forgotten_by_more_than_chance():
  found = forgets_preferences(-0.07, 0.03, 2.0)
  assert found.value == -0.07 and found.threshold == pytest.approx(-0.06)
  assert "is 0.070 below its base's, more than 2 standard errors of 0.030" in found.sentence
  for healthy in (-0.06, 0.0, 0.2):
    assert forgets_preferences(healthy, 0.03, 2.0) is None
  # A reward model that is not trained has neither a difference nor an error.
  assert forgets_preferences(0.0, 0.0, 2.0) is None


def test_the_kl_is_large_or_explodes():
  assert is_far(20.0, 20.0) is None
  assert "20.5 nats a response" in is_far(20.5, 20.0).sentence
  found = explodes(6.0, 1.0, 5.0)
  assert found[:3] == ("kl_grows", 6.0, 5.0) and "from 1.00 to 6.00 nats" in found.sentence
  # At the threshold, from a start that has none, and where both are small.
  for kl, previous in ((5.0, 1.0), (30.0, 0.0), (2.0, -0.1), (0.9, 0.01)):
    assert explodes(kl, previous, 5.0) is None


@pytest.mark.parametrize(
  ("check", "name", "field"),
  [
    (lambda *given: are_empty(*given), "samples_empty", "config.sampling"),
    (lambda *given: are_unfinished(*given, "S"), "samples_unfinished", "S.max_new_tokens"),
    (lambda *given: repeat_themselves(*given, "S"), "samples_repeated", "S.temperature"),
  ],
)
def test_shares_of_samples_that_teach_nothing(check, name, field):
  assert check(0.25, 0.25, "these samples") is None
  found = check(0.375, 0.25, "these samples")
  assert found[:3] == (name, 0.375, 0.25)
  for part in ("37.5%", "hese samples", "more than 25.0%", field):
    assert part in found.sentence


def test_samples_are_alike():
  assert are_alike(0.5, 0.5, "these samples", "S") is None
  found = are_alike(0.375, 0.5, "these samples", "S")
  assert found[:3] == ("samples_alike", 0.375, 0.5)
  assert found.sentence.startswith("These samples are alike: 37.5%")
  assert "S.temperature" in found.sentence


def test_most_gradients_are_clipped():
  assert are_clipped([], 1.0, 0.5, "T") is None
  assert are_clipped([0.5, 1.0, 2.0, 3.0], 1.0, 0.5, "T") is None  # just as long is not clipped
  found = are_clipped([0.5, 1.5, 2.0, 3.0], 1.0, 0.5, "T")
  assert found[:3] == ("gradients_clipped", 0.75, 0.5)
  assert "75.0%" in found.sentence and "T.clip_norm, 1," in found.sentence
  assert "median norm is 1.8" in found.sentence
