"""The configs of methods: each loads, fits, and is the demo but for what it names."""

import pytest

from apo_jax.config.checks import from_config_dict
from apo_jax.objectives import PolicyLoss, RewardTerm, Shaping, Weighting
from benchmarks.compare_methods.methods import NEED_CHECKPOINT
from tests.tiny import ROOT, load_config_file

METHODS = {
  path.stem: path
  for path in sorted((ROOT / "configs" / "methods").glob("*.py"))
  if path.stem != "common"
}


def config_of(name):
  config = load_config_file(METHODS[name]).get_config()
  if name in NEED_CHECKPOINT:
    config.model.checkpoint = "a/folder"
  return from_config_dict(config)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_fits_the_game(name):
  assert f"--config=configs/methods/{name}.py" in METHODS[name].read_text()
  config = config_of(name)
  names = {config.policy.loss.name, config.reward.weighting.name}
  for chosen in (config.policy.shapings, config.policy.selections, config.reward.terms):
    names |= {one.name for one in chosen}
  # Files are called as the choice, but for a paper whose choice has a name of its own.
  names |= {"more"} if "min_norm" in names else set()
  names |= {"inverse_rl"} if config.reward.contrast == "supervised_vs_initial" else set()
  assert name in names


def test_every_choice_has_a_config():
  configs = [config_of(name) for name in METHODS]
  ours = {
    kind: {one for one, of in kind.known.items() if of.__module__.startswith("apo_jax.")}
    for kind in (PolicyLoss, Shaping, RewardTerm, Weighting)
  }
  assert {config.policy.loss.name for config in configs} == ours[PolicyLoss]
  assert {config.reward.weighting.name for config in configs} == ours[Weighting]
  assert {one.name for config in configs for one in config.reward.terms} == ours[RewardTerm]
  assert {one.name for config in configs for one in config.policy.shapings} == ours[Shaping]
  assert {config.reward.contrast for config in configs} >= {"supervised_vs_initial"}
