"""What is kept of a batch whose update gave no number, and what is said of it."""

import dataclasses
import shlex

import numpy as np
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_json, write_json
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.phases.failed_batch import (
  LastBatches,
  advice,
  keep_batch,
  last_failure,
  read_batch,
  same_arrays,
)
from apo_jax.run.players import Player
from tests import batches, tiny

POLICY, START = Player("policy", 2), Player("policy", 0)


def odd_batch():
  batch = batches.policy_batch()
  rewards = batch.rewards.copy()
  rewards[0, :2] = np.nan, -np.inf
  return batch._replace(rewards=rewards)


def test_a_batch_comes_back_as_it_was(tmp_path):
  directory, batch = RunDirectory(tmp_path), odd_batch()
  keep_batch(directory, POLICY, 7, {"loss": float("nan"), "reward": 0.1}, batch)
  failure = last_failure(directory)
  assert (failure.round, failure.phase, failure.update) == (2, "policy", 7)
  assert failure.metrics == {"loss": "nan", "reward": "0.1"} and failure.processes == 1
  again = read_batch(directory, POLICY, batches.policy_batch(seed=1))
  assert same_arrays(again, batch) and not same_arrays(again, batches.policy_batch())
  assert again.rewards.dtype == np.float32 and again.rows.tokens.dtype == batch.rows.tokens.dtype


def test_the_newest_failure_is_the_one(tmp_path):
  directory = RunDirectory(tmp_path)
  for player, update in ((POLICY, 3), (START, 5)):
    keep_batch(directory, player, update, {}, batches.policy_batch())
  place = directory.failed / POLICY.name / "failure.json"
  write_json(place, {**read_json(place), "time": 1e12})
  assert last_failure(directory).update == 3


def test_what_is_missing_or_damaged_is_named(tmp_path):
  directory, batch = RunDirectory(tmp_path), batches.policy_batch()
  with pytest.raises(ConfigError, match=r"keeps no failed batch: no loss or gradient"):
    last_failure(directory)
  keep_batch(directory, POLICY, 7, {}, batch)
  with pytest.raises(ConfigError, match=r"rows_0.npz holds rows.tokens, .* a batch of policy"):
    read_batch(directory, POLICY, batches.reward_batch())
  kept = directory.failed / POLICY.name / "rows_0.npz"
  kept.write_bytes(kept.read_bytes()[:300])
  with pytest.raises(ConfigError, match=r"rows_0.npz, the failed batch, cannot be read"):
    read_batch(directory, POLICY, batch)
  (kept.parent / "failure.json").write_text('{"round": 1}')
  with pytest.raises(ConfigError, match=r"failure.json cannot be read"):
    last_failure(directory)


def test_metrics_are_read_one_update_late():
  last = LastBatches(made=4)
  for batch in ("fifth", "sixth", "seventh"):
    last.add(batch)
  assert (last.of(6), last.of(7)) == ("sixth", "seventh")
  with pytest.raises(KeyError):
    last.of(5)


def test_the_advice_can_be_typed():
  training = dataclasses.replace(tiny.config().policy.training, learning_rate=3e-4)
  directory = RunDirectory(tiny.ROOT / "a run")
  said = advice(directory, POLICY, training, "config.policy.training")
  replay, branch = (shlex.split(command) for command in said.split("`")[1::2])
  assert replay == ["python", "-m", "apo_jax.replay", f"--run={directory}"]
  assert branch == [
    *["python", "-m", "apo_jax.branch", f"--run={directory}", "--from=1"],
    f"--run_dir={directory}-from-1",
    "--config.policy.training.learning_rate=3e-05",
  ]
  said = advice(directory, START, training, "config.supervised")
  assert "apo_jax.branch" not in said and "config.supervised.clip_norm" in said
