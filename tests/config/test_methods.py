"""The configs of methods: each loads, fits, and is the demo but for what it names."""

import pytest

from apo_jax.config.checks import from_config_dict
from apo_jax.objectives import PolicyLoss, RewardTerm, Shaping, Weighting
from tests.tiny import ROOT, load_config_file

METHODS = {
  path.stem: path
  for path in sorted((ROOT / "configs" / "methods").glob("*.py"))
  if path.stem != "common"
}


def config_of(name):
  return from_config_dict(load_config_file(METHODS[name]).get_config())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_fits_the_game(name):
  assert f"--config=configs/methods/{name}.py" in METHODS[name].read_text()
  config = config_of(name)
  names = {config.policy.loss.name, config.reward.weighting.name}
  for chosen in (config.policy.shapings, config.policy.selections, config.reward.terms):
    names |= {one.name for one in chosen}
  # SPO's and others' files are called as the choice; MORE's rule has a name of its own.
  assert name in names or (name, "min_norm" in names) == ("more", True)


def test_every_choice_has_a_config():
  configs = [config_of(name) for name in METHODS]
  ours = {
    kind: {one for one, of in kind.known.items() if of.__module__.startswith("apo_jax.")}
    for kind in (PolicyLoss, Shaping, RewardTerm, Weighting)
  }
  assert {config.policy.loss.name for config in configs} == ours[PolicyLoss]
  assert {config.reward.weighting.name for config in configs} == ours[Weighting]
  assert {one.name for config in configs for one in config.reward.terms} == ours[RewardTerm]
  # A price for length or a missing end is no method of a paper.
  shaped = {one.name for config in configs for one in config.policy.shapings}
  assert shaped == ours[Shaping] - {"length_penalty", "missing_end"}
