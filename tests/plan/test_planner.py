"""Whole plans of the tiny game for the devices at hand, and the command."""

import dataclasses
import json
import subprocess
import sys

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.plan import planner
from apo_jax.plan.chips import GIB, Chip
from apo_jax.plan.descriptions import config_without_data
from apo_jax.plan.planner import make_plan
from apo_jax.plan.text import render
from tests import tiny

SLOW_CHIP = Chip("slow chip", 1 * GIB, 1e9, 1e9, 1e9, 1, 2.0)
NAMES = [
  "sample: read",
  "sample: 8 tokens",
  "reward step",
  "score rewards",
  "score logprobs",
  "policy step",
  "evaluate: read",
  "evaluate: 8 tokens",
  "evaluate rewards",
  "evaluate logprobs",
]


@pytest.fixture(scope="module")
def plan():
  """The tiny game's plan on a chip that this machine is said to be."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(planner, "CHIPS", {"cpu": SLOW_CHIP})
    return make_plan(tiny.config(), "local")


@pytest.mark.slow
def test_a_plan_has_every_program_of_a_round(plan):
  assert [one.program.name for one in plan.measured] == NAMES
  assert all(plan.fits(one) for one in plan.measured)


@pytest.mark.slow
def test_a_round_takes_its_calls(plan):
  expected = sum(
    max(one.costs.flops / 1e9, one.costs.bytes / 1e9, one.costs.sent / 1e9) * one.program.calls
    for one in plan.measured
  )
  assert plan.round_seconds == pytest.approx(expected)
  assert plan.round_price == pytest.approx(expected / 3600 * plan.num_devices * 2.0)


@pytest.mark.slow
def test_mfu_is_the_models_flops_over_the_rooflines(plan):
  for one in plan.measured:
    mfu = plan.mfu(one)
    assert 0 < mfu < 1
    assert mfu <= one.program.flops / plan.num_devices / one.costs.flops * 1.01


@pytest.mark.slow
def test_the_text_says_what_does_not_fit_and_what_to_change(plan):
  config = tiny.config()
  text = render(plan, config)
  assert "A round takes at least" in text
  assert "!" not in text
  tiny_chip = dataclasses.replace(SLOW_CHIP, memory=2.0**10)
  small = dataclasses.replace(plan, chip=tiny_chip)
  text = render(small, config)
  assert "policy step needs" in text
  assert "--config.policy.training.accumulation=2" in text
  assert "--config.sampling.batch_size=8" in text
  assert "gather_weights" not in text
  text = render(small, tiny.config(sampling__gather_weights=True))
  assert "--config.sampling.batch_size=8 or --config.sampling.gather_weights=False" in text


def test_an_unknown_chip_is_not_timed():
  config = tiny.config(reward__mode="fixed")
  begun = []
  plan = make_plan(
    config, "local", only=["policy step"], on_start=lambda *place: begun.append(place)
  )
  assert begun == [("policy step", 1, 1)]
  assert plan.chip is None
  assert plan.mfu(plan.measured[0]) is None
  assert "A round takes" not in render(plan, config)


def test_programs_may_be_chosen_among_those_of_a_round():
  config = tiny.config(reward__mode="fixed")
  with pytest.raises(ConfigError, match=r"'reward step'.*policy step"):
    make_plan(config, "local", only=["reward step"])


def test_a_plan_needs_no_data_and_no_weights(tmp_path):
  config = tiny.load_config_file(tiny.ROOT / "configs" / "llama_7b_hh.py").get_config()
  shape = json.loads((tiny.ROOT / "configs/shapes/llama_7b/config.json").read_text())
  assert shape["hidden_size"] == 4096
  assert config_without_data(config).data.preferences
  config.policy.loss = "ppo"
  with pytest.raises(ConfigError, match=r"config\.policy\.loss"):
    config_without_data(config)
  given = tiny.config(model__checkpoint=str(tmp_path))
  with pytest.raises(ConfigError, match=r"config\.json"):
    make_plan(given, "local")


def command(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "apo_jax.plan", *arguments],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], "--config is missing"),
    (["--config=configs/demo.py", "--topology=v5e:3x5x7"], "v5e:3x5x7"),
    (["--config=configs/demo.py", "--config.policy.loss=ppo"], "config.policy.loss"),
    (["--config=configs/missing.py"], "configs/missing.py"),
  ],
)
def test_the_command_refuses_in_one_sentence(arguments, said):
  result = command(*arguments)
  assert result.returncode == 2
  assert "Traceback" not in result.stderr
  assert said in result.stderr


@pytest.mark.slow
def test_the_command_plans_for_tpus_that_are_not_there():
  pytest.importorskip("libtpu")
  result = command(*tiny.flags(), "--topology=v5e:2x2")
  assert result.returncode == 0, result.stderr
  assert "4 × TPU v5e" in result.stdout
  assert "A round takes at least" in result.stdout
