"""Rows beyond a checkpoint's positions are refused, whoever of the models has them."""

import dataclasses

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.run.origins import find_origins
from apo_jax.run.positions import check_positions
from tests import tiny
from tests.models.hugging_face import cases

LENGTHS = {"data__query_length": 40, "data__query_buckets": (40,), "data__row_length": 64}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp("checkpoints")
  return cases.write(root / "policy", "llama"), cases.write(root / "reward", cases.REWARD)


@pytest.mark.parametrize("player", ["model", "reward", "testing_reward"])
@pytest.mark.parametrize(
  ("new_tokens", "limit", "message"),
  [
    (20, 64, None),
    (20, 63, r"^config\.data\.row_length is 64 tokens, but {field} has 63 positions"),
    (30, 71, None),
    (
      30,
      70,
      r"^config\.sampling\.evaluation\.max_new_tokens is 30, which with a query of"
      r" config\.data\.query_length, 40, and its end makes 71 tokens, but {field} has 70",
    ),
  ],
)
def test_the_longest_row_against_the_positions(folders, player, new_tokens, limit, message):
  policy, reward = map(str, folders)
  config = tiny.config(
    model__checkpoint=policy,
    reward__checkpoint=reward,
    testing_reward__checkpoint=reward,
    sampling__evaluation__max_new_tokens=new_tokens,
    **LENGTHS,
  )
  origins = find_origins(config)
  name = f"{'policy' if player == 'model' else player}_checkpoint"
  limited = dataclasses.replace(getattr(origins, name), positions=limit)
  origins = dataclasses.replace(origins, **{name: limited})
  if message is None:
    check_positions(config, origins)
    return
  field = rf"config\.{player}\.checkpoint"
  with pytest.raises(ConfigError, match=message.format(field=field)):
    check_positions(config, origins)


def test_random_weights_have_no_limit():
  config = tiny.config()
  check_positions(config, find_origins(config))
