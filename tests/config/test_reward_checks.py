"""Refusals of contrasts, weightings and terms that the rest of a config does not allow."""

import pytest

from apo_jax.config.fields import ConfigError
from tests import tiny

MIN_NORM = {"reward__weighting": "min_norm"}
FAMILIES = {"data__subset_column": "family"}
GRM = {"reward__terms": ("grm",)}


@pytest.mark.parametrize(
  ("given", "sentence"),
  [
    (
      {"reward__contrast": "golden_vs_initial"},
      r"reward.contrast is 'golden_vs_initial', but config.model.checkpoint is ''.* noise",
    ),
    (
      {
        "reward__contrast": "supervised_vs_initial",
        "model__checkpoint": "somewhere",
        "supervised__epochs": 0,
      },
      "config.supervised.epochs is 0, which makes both one policy; it must be at least 1",
    ),
    (
      {"reward__contrast": "golden_vs_initial", "reward__mode": "preferences_only"},
      "reward.mode is 'preferences_only', which contrasts nothing",
    ),
    ({"reward__contrast": "golden"}, "reward.contrast is 'golden'; it must be 'golden_vs_sample'"),
    (
      {**MIN_NORM, "reward__min_norm__normalisation": "l2"},
      "min_norm.normalisation is 'l2', which weighs two terms always by 1/2 each",
    ),
    (
      {**MIN_NORM, "reward__mode": "preferences_only"},
      "config.reward.mode is 'preferences_only', whose loss has one term",
    ),
    (
      {**MIN_NORM, **FAMILIES, "reward__mode": "fixed"},
      "config.reward.mode is 'fixed', whose loss has none",
    ),
    (FAMILIES, "subset_column is 'family', but config.reward.weighting is 'fixed'"),
    (
      {**MIN_NORM, "data__subset_column": "kind"},
      "subset_column is 'kind'; it must be 'family' or ''",
    ),
    ({**MIN_NORM, "reward__mode": "fixed"}, "'min_norm', but config.reward.mode is 'fixed'"),
    (
      {**MIN_NORM, "reward__apo__reduction": "reference"},
      "reward.apo.reduction is 'reference' with config.reward.weighting 'min_norm'",
    ),
    (
      {
        **MIN_NORM,
        "reward__min_norm__normalisation": "loss",
        "reward__apo__kind": "difference",
      },
      "normalisation is 'loss', which divides by a loss, .* it must be 'none'",
    ),
    ({"reward__min_norm__least": 0.5}, "min_norm.least is 0.5; it must be .* below 0.5"),
    (
      {**GRM, "reward__grm__data": "golden", "reward__mode": "preferences_only"},
      "grm.data is 'golden', but config.reward.mode is 'preferences_only'",
    ),
    ({**GRM, "reward__grm__beta": 0.0}, "grm.beta is 0.0; it must be a float above 0"),
  ],
)
def test_refusals(given, sentence):
  with pytest.raises(ConfigError, match=sentence):
    tiny.config(**given)


def test_what_is_not_chosen_is_not_checked():
  unused = {"reward__min_norm__normalisation": "l2", "reward__grm__data": "golden"}
  config = tiny.config(**unused, reward__mode="preferences_only")
  assert not config.reward.needs_language_head
  assert tiny.config(**GRM).reward.needs_language_head


@pytest.mark.parametrize("mode", ["adversarial", "preferences_only"])
def test_subsets_make_a_weighting_of_preferences_alone_and_of_equal_lengths(mode):
  l2 = {"reward__min_norm__normalisation": "l2", "reward__mode": mode}
  assert tiny.config(**MIN_NORM, **FAMILIES, **l2).reward.weighting.normalisation == "l2"
