"""The game from Hugging Face checkpoints, with adapters and without: what is shared and kept."""

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from apo_jax import game
from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_json, read_jsonl
from apo_jax.logs.metrics import read_metrics
from apo_jax.models.definition import define_policy, define_reward_model, join
from apo_jax.models.hugging_face.importing import import_decoder, import_reward_head
from apo_jax.run import starts
from apo_jax.run.origins import find_origins
from apo_jax.training.checkpoints import load_parameters
from tests import checkpoints, tiny

LORA = {
  f"{player}__lora__{name}": value
  for player in ("policy", "reward")
  for name, value in {"rank": 2, "dropout": 0.1}.items()
} | {"data__row_buckets": (56,)}  # rows come in two lengths
# A chat template's turns take more tokens than the demo's.
LENGTHS = {
  "data__query_length": 48,
  "data__query_buckets": (48,),
  "data__row_length": 72,
  "supervised__epochs": 0,
  "rounds": 1,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
  return checkpoints.write(tmp_path_factory.mktemp("checkpoints") / "language_model")


@pytest.fixture(scope="module")
def reward_checkpoint(tmp_path_factory) -> Path:
  directory = tmp_path_factory.mktemp("checkpoints") / "reward_model"
  return checkpoints.write(directory, reward=True, seed=1)


def config(checkpoint: Path, **overrides: object):
  given = {"model__checkpoint": str(checkpoint), **LENGTHS, **overrides}
  return tiny.config(**given)


@pytest.fixture(scope="module")
def adapted(checkpoint, tmp_path_factory) -> Path:
  """The run directory of a game with adapters for both players."""
  run_dir = tmp_path_factory.mktemp("runs") / "adapted"
  game.play(config(checkpoint, **LORA), run_dir)
  return run_dir


def definitions(settings):
  origins = find_origins(settings)
  policy = define_policy(origins.policy, tiny.mesh(), settings.policy.lora)
  pooling, lora = settings.reward.pooling, settings.reward.lora
  return origins, policy, define_reward_model(origins.reward, pooling, tiny.mesh(), lora)


def test_both_players_share_one_frozen_copy_of_the_checkpoint(checkpoint):
  origins, policy, reward_model = definitions(config(checkpoint, **LORA))
  frozen = starts.frozen_policy(origins, policy)
  shared = starts.frozen_reward(origins, policy, frozen, reward_model)
  for ours, theirs in zip(jax.tree.leaves(shared["trunk"]), jax.tree.leaves(frozen), strict=True):
    assert ours is theirs


@pytest.mark.slow
def test_checkpoints_hold_adapters_alone(adapted, checkpoint):
  settings = config(checkpoint, **LORA)
  _, policy, _ = definitions(settings)
  trained = load_parameters(adapted / "checkpoints" / "01_policy", policy, 2)
  assert jax.tree.structure(trained) == jax.tree.structure(policy.trained)
  start = load_parameters(adapted / "checkpoints" / "00_supervised", policy, 0)
  b = [name for name in trained["layers"] if name.endswith("_b")]
  assert all(not np.any(start["layers"][name]) for name in b)
  assert all(np.any(trained["layers"][name]) for name in b)
  kept = sum(path.stat().st_size for path in (adapted / "checkpoints").rglob("*") if path.is_file())
  # Two steps of 5 players, with moments; of whole models it would be 30 times the checkpoint.
  assert kept < 8 * checkpoint.joinpath("model.safetensors").stat().st_size


@pytest.mark.slow
def test_the_policy_starts_from_the_checkpoint(adapted, checkpoint):
  """Round 0 is the imported model: equal samples with adapters and without, equal weights."""
  settings = config(checkpoint)
  origins, plain, _ = definitions(settings)
  run_dir = adapted.parent / "full"
  game.play(dataclasses.replace(settings, rounds=0), run_dir)
  first, second = (
    read_jsonl(path / "rounds" / "00" / "test_samples.jsonl") for path in (adapted, run_dir)
  )
  tokens = [
    [sample["tokens"] for query in rows for sample in query["samples"]] for rows in (first, second)
  ]
  assert tokens[0] == tokens[1]
  imported = import_decoder(origins.policy_checkpoint, plain.abstract, "config.model.checkpoint")
  kept = load_parameters(run_dir / "checkpoints" / "00_supervised", plain, 0)
  jax.tree.map(np.testing.assert_array_equal, kept, imported)


def copied(run_dir: Path, tmp_path: Path) -> Path:
  return shutil.copytree(run_dir, tmp_path / "copy")


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_weights(adapted, checkpoint, tmp_path):
  other = shutil.copytree(checkpoint, tmp_path / "other")
  checkpoints.write(other, seed=5)
  run_dir = copied(adapted, tmp_path)
  with pytest.raises(ConfigError, match=r"weights of config\.model\.checkpoint have changed"):
    game.play(config(other, **LORA), run_dir)


@pytest.mark.slow
def test_a_run_goes_on_with_a_checkpoint_that_has_moved(adapted, checkpoint, tmp_path):
  moved = shutil.copytree(checkpoint, tmp_path / "moved")
  run_dir = copied(adapted, tmp_path)
  game.play(config(moved, **LORA), run_dir)
  assert read_json(run_dir / "config.json")["model"]["checkpoint"] == str(moved)


@pytest.mark.slow
def test_reward_adapters_start_from_the_checkpoint_itself(adapted, checkpoint):
  for phase in ("reward_base", "testing_reward"):
    assert read_json(adapted / f"rounds/00/{phase}.json")["started_from"] == str(checkpoint)


@pytest.mark.slow
def test_a_stopped_game_with_adapters_and_dropout_goes_on_as_if_it_had_not(
  adapted, checkpoint, tmp_path
):
  class Stopped(Exception):
    pass

  def stop(phase):
    raise Stopped

  settings = config(checkpoint, **LORA)
  while True:
    try:
      game.play(settings, tmp_path, on_phase_end=stop)
      break
    except Stopped:
      continue
  for name in ("evaluation.json", "policy_samples.jsonl"):
    assert (tmp_path / "rounds/01" / name).read_text() == (adapted / "rounds/01" / name).read_text()

  def losses(run_dir):
    return [line["loss"] for line in read_metrics(run_dir) if "loss" in line]

  assert losses(tmp_path) == losses(adapted)


def test_a_reward_checkpoint_brings_its_head_and_its_trunk(checkpoint, reward_checkpoint):
  settings = config(checkpoint, reward__checkpoint=str(reward_checkpoint))
  origins, policy, reward_model = definitions(settings)
  first = starts.first_reward(origins, policy, reward_model, policy.init(0), 0)
  head = import_reward_head(
    origins.reward_checkpoint, reward_model.abstract["reward_head"], "config.reward.checkpoint"
  )
  np.testing.assert_array_equal(first["reward_head"], head)
  assert jax.tree.structure(first) == jax.tree.structure(reward_model.abstract)
  # With adapters the trunk is frozen, and the head is the same.
  with_adapters = dataclasses.replace(
    settings,
    reward=dataclasses.replace(settings.reward, lora=config(checkpoint, **LORA).reward.lora),
  )
  origins, policy, adapted_model = definitions(with_adapters)
  trained = starts.first_reward(origins, policy, adapted_model, policy.init(0), 0)
  np.testing.assert_array_equal(trained["reward_head"], head)
  frozen = starts.frozen_reward(origins, policy, {}, adapted_model)
  whole = join(trained, frozen)
  np.testing.assert_array_equal(whole["trunk"]["embedding"], first["trunk"]["embedding"])


def test_a_whole_reward_model_starts_from_the_checkpoint_s_own_weights(checkpoint):
  """Merged with the policy's adapters, not from the frozen weights, which may be rounded."""
  starting = []
  for frozen_dtype in ("float32", "nf4"):
    settings = config(checkpoint, policy__lora__rank=2, model__frozen_dtype=frozen_dtype)
    origins, policy, reward_model = definitions(settings)
    adapters, _ = policy.split(policy.init(0))
    awake = jax.tree.map(lambda leaf: leaf + 0.1, adapters)
    supervised = join(awake, starts.frozen_policy(origins, policy))
    starting.append(starts.first_reward(origins, policy, reward_model, supervised, 0))
  jax.tree.map(np.testing.assert_array_equal, *starting)
  plain = import_decoder(
    origins.policy_checkpoint, reward_model.abstract["trunk"], "config.model.checkpoint"
  )
  moved = starting[0]["trunk"]["layers"]["query"] - plain["layers"]["query"]
  assert np.abs(moved).min() > 0


@pytest.mark.slow
def test_a_game_plays_from_a_reward_checkpoint(checkpoint, reward_checkpoint, tmp_path):
  settings = config(
    checkpoint,
    reward__checkpoint=str(reward_checkpoint),
    reward__lora__rank=2,
    policy__loss="rrhf",
    reward__pooling="eos",
  )
  game.play(settings, tmp_path / "run")
  score = read_json(tmp_path / "run/rounds/00/reward_base.json")
  assert score["started_from"] == str(reward_checkpoint)
  assert np.isfinite(read_json(tmp_path / "run/rounds/01/evaluation.json")["testing_reward"])


def refusal(settings, run_dir) -> str:
  with pytest.raises(ConfigError) as error:
    game.play(settings, run_dir)
  assert not run_dir.exists() or not any(run_dir.iterdir())
  return str(error.value)


@pytest.mark.parametrize("model", ["reward", "testing_reward"])
def test_a_language_model_is_no_reward_checkpoint(checkpoint, tmp_path, model):
  given = {f"{model}__checkpoint": str(checkpoint)}
  message = refusal(config(checkpoint, **given), tmp_path / "run")
  assert f"config.{model}.checkpoint is {str(checkpoint)!r}" in message
  assert "sequence-classification" in message


def test_a_reward_model_is_no_policy(reward_checkpoint, tmp_path):
  message = refusal(config(reward_checkpoint), tmp_path / "run")
  assert f"config.model.checkpoint is {str(reward_checkpoint)!r}" in message
  assert "language model" in message


@pytest.mark.parametrize("model", ["reward", "testing_reward"])
def test_all_models_share_a_tokenizer(checkpoint, tmp_path, model):
  other = checkpoints.write(tmp_path / "other", reward=True)
  tokenizer = (other / "tokenizer.json").read_text()
  assert '"<eos>"' in tokenizer
  (other / "tokenizer.json").write_text(tokenizer.replace('"<eos>"', '"<end>"'))
  given = {f"{model}__checkpoint": str(other)}
  message = refusal(config(checkpoint, **given), tmp_path / "run")
  assert f"config.{model}.checkpoint is {str(other)!r}" in message
  assert "tokenizer" in message


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
  message = refusal(config(tmp_path / "nowhere"), tmp_path / "run")
  assert "config.model.checkpoint" in message
  assert "nowhere" in message


@pytest.mark.slow
def test_the_run_directory_shows_what_the_models_read(adapted):
  text = (adapted / "preview.txt").read_text(encoding="utf-8")
  joined = text.replace("‹", "").replace("›", "")
  assert "<|user|>" in joined
  assert "<|assistant|>" in joined
