"""A run directory as a finished game leaves it, made without playing."""

from pathlib import Path

import jax
import jax.numpy as jnp

from apo_jax.config.base import to_json
from apo_jax.config.schema import Config
from apo_jax.data.tokens import load_tokenizer
from apo_jax.logs.files import write_json
from apo_jax.models.definition import Definition, Parameters
from apo_jax.run.models import make_models
from apo_jax.run.origins import find_origins
from apo_jax.training.checkpoints import open_phase
from apo_jax.training.optimization import TrainState
from tests import tiny

RESULTS = (
  "00/supervised.json",
  "00/reward_base.json",
  "00/testing_reward.json",
  "00/evaluation.json",
  "01/reward.json",
  "01/policy.json",
  "01/evaluation.json",
)
PLAYERS = ("00_supervised", "00_reward_base", "00_testing_reward", "01_policy", "01_reward")


def make(run_dir: Path, **overrides: object) -> Config:
  """A run of one round with random players; overrides as in `tiny.config`.

  The tokenizer is the checkpoint's where there is one, else `tiny.codec`'s.
  """
  config = tiny.config(**overrides)
  write_json(run_dir / "config.json", to_json(config))
  write_json(run_dir / "origins.json", {})  # tests change the checkpoints that they write
  base = config.model.checkpoint
  tokenizer = load_tokenizer(base, "the checkpoint") if base else tiny.codec().tokenizer
  tokenizer.save_pretrained(run_dir / "tokenizer")
  for result in RESULTS:
    write_json(run_dir / "rounds" / result, {"updates": 0})
  for player in PLAYERS:
    state = TrainState(jnp.int32(0), trained(player, definition(config, player)), ())
    with open_phase(run_dir / "checkpoints" / player, keep=1) as checkpoints:
      checkpoints.save(state, 0, {"position": 0})
  return config


def definition(config: Config, player: str) -> Definition:
  """A player's model."""
  models = make_models(config, find_origins(config), tiny.mesh())
  if "reward" not in player:
    return models.policy
  return models.testing_reward if "testing" in player else models.reward


def trained(player: str, definition: Definition) -> Parameters:
  """A player's trained parameters, no two players' alike and no adapter's zero."""
  seed = PLAYERS.index(player)
  parameters = definition.split(definition.init(seed))[0]
  leaves, structure = jax.tree.flatten(parameters)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  moved = [
    leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)
  ]
  return jax.tree.unflatten(structure, moved)
