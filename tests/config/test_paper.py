"""The paper's experiments, in both scales: each loads, and is the game that its row says."""

import importlib.util
import re

import pytest
from ml_collections.config_flags import config_path

from apo_jax import game
from apo_jax.config.checks import from_config_dict
from tests.tiny import ROOT

PAPER = ROOT / "configs" / "paper"
README = (PAPER / "README.md").read_text()

# What differs from rejection sampling against the APO reward model, each player from its base.
ROWS = {
  "reward_base": {"rounds": 0},
  "reward_testing": {"rounds": 0, "reward.base.epochs": 0},
  "reward_preferences_only": {"reward.mode": "preferences_only", "reward.start": "previous"},
  "reward_apo_base": {},
  "reward_apo_sequential": {"reward.start": "previous"},
  "reward_difference": {"reward.apo.kind": "difference"},
  "samples_one": {"sampling.training.num_samples": 1},
  "golden_chosen": {"data.golden": "chosen"},
  "policy_rjs": {"reward.mode": "fixed"},
  "policy_rjs_apo": {},
  "policy_rrhf": {"policy.loss": "rrhf", "reward.mode": "fixed"},
  "policy_rrhf_apo": {"policy.loss": "rrhf"},
  "policy_dpo": {"policy.loss": "dpo", "reward.mode": "fixed"},
  "policy_dpo_apo": {"policy.loss": "dpo"},
}
SHARED = {
  "rounds": 3,
  "policy.loss": "rjs",
  "policy.start": "base",
  "policy.reference": "initial",
  "reward.start": "base",
  "reward.mode": "adversarial",
  "reward.apo.kind": "ranking",
  "sampling.training.num_samples": 4,
}


def load(name, scale):
  spec = importlib.util.spec_from_file_location(name, PAPER / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(scale) if scale else module.get_config()


def fields(section, above=""):
  """Every field of a config by its dotted name."""
  found = {}
  for name, value in section.to_dict().items() if hasattr(section, "to_dict") else section.items():
    found |= fields(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
  return found


def validated(config, tmp_path):
  """The config's view, where the user's golden responses are some file."""
  if config.data.source == "files" and config.data.golden != "chosen":
    config.data.golden = str(tmp_path / "golden.jsonl")
    (tmp_path / "golden.jsonl").touch()
  return from_config_dict(config)


def test_every_file_is_a_row():
  assert {path.stem for path in PAPER.glob("*.py")} == {"common", *ROWS}


@pytest.mark.parametrize("scale", ["", "toy"])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_valid_and_differs_as_it_says(name, scale, tmp_path):
  config, base = load(name, scale), load("reward_apo_base", scale)
  ours, theirs = fields(config), fields(base)
  differing = {field for field in ours | theirs if ours.get(field) != theirs.get(field)}
  for field, value in {**SHARED, **ROWS[name]}.items():
    assert ours[field] == value, field
  expected = {field for field, value in ROWS[name].items() if theirs[field] != value}
  others = {field for field in differing if not field.startswith("testing_reward.training")}
  assert others == expected
  view = validated(config, tmp_path)
  if name == "reward_testing":
    # The judge is trained as elsewhere, though the base beside it is not.
    assert view.testing_reward.training == validated(base, tmp_path).reward.base
  else:
    assert others == differing


@pytest.mark.parametrize("name", ROWS)
def test_the_phases_of_a_row(name):
  config = from_config_dict(load(name, "toy"))
  played = [(phase.round, phase.result) for phase in game.phases(config)]
  mode, rounds = config.reward.mode, range(1, config.rounds + 1)
  assert config.rounds == (0 if name in ("reward_base", "reward_testing") else 3)
  for round in rounds:
    assert ((round, "golden_samples.jsonl") in played) == (mode == "adversarial")
    assert ((round, "reward.json") in played) == (mode != "fixed")
    assert (round, "policy.json") in played
  assert played[-1] == (config.rounds, "evaluation.json")


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_its_commands_and_stands_in_the_table(name):
  text = (PAPER / f"{name}.py").read_text().split('"""')[1]
  for scale in ("", ":toy"):
    assert re.search(rf"--config=configs/paper/{name}\.py{scale}\s", text)
  assert f"`{name}`" in README


def test_the_sweeps_set_fields_that_exist():
  swept = re.findall(r"--config=(\S+?)\.py(?::toy)? \\\n\s+--set (\S+?)=(\S+)", README)
  assert [field for _, field, _ in swept] == [
    "reward.apo.golden_coefficient",
    "reward.apo.preference_coefficient",
  ]
  for file, field, values in swept:
    assert (ROOT / f"{file}.py").exists()
    assert isinstance(config_path.get_value(field, load("reward_apo_base", "toy")), float)
    assert len({float(value) for value in values.split(",")}) > 1


@pytest.mark.parametrize("scale", ["full", "TOY", "toy:small"])
def test_another_scale_is_refused(scale):
  with pytest.raises(ValueError, match=rf"reward_base\.py:{scale}: .* must be toy"):
    load("reward_base", scale)
