"""What the judge starts and learns from, and what it has in common with the game's reward model."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from apo_jax.data.sources import load_data
from apo_jax.data.tokenised import tokenise
from apo_jax.logs.files import read_json
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.models.definition import trunk_of
from apo_jax.phases import training
from apo_jax.run import judge
from apo_jax.run.inference import make_inference
from apo_jax.run.models import make_models
from apo_jax.run.origins import find_origins
from apo_jax.run.players import Player, Players
from apo_jax.run.run import Run
from tests import checkpoints, tiny

OWN_SHAPE = {"testing_reward__shape": tiny.JUDGE}


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> Path:
  return checkpoints.write(tmp_path_factory.mktemp("checkpoints") / "language_model")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
  directory = tmp_path_factory.mktemp("checkpoints") / "classifier"
  return checkpoints.write(directory, reward=True, seed=1)


def models_of(config):
  return make_models(config, find_origins(config), tiny.mesh())


class PlannedRun(Run):
  """A run that has no more than what the phases before the first round read before they play."""

  def __init__(self, **parts):
    vars(self).update(parts)


def run_of(tmp_path, **overrides):
  """Such a run; in the place of a player's parameters stands who it is."""
  config = tiny.config(**overrides)
  return PlannedRun(
    config=config,
    data=tokenise(tiny.codec(), load_data(config)),
    codec=tiny.codec(),
    directory=RunDirectory(tmp_path),
    players=Players(config),
    models=models_of(config),
    parameters=SimpleNamespace(of=lambda player: {"of": player}),
    logs=SimpleNamespace(is_writer=True),
  )


@pytest.fixture
def planned(monkeypatch):
  """Training phases are kept and not played."""
  phases = []
  monkeypatch.setattr(training, "play", lambda run, phase: phases.append(phase))
  return phases


def test_a_judge_of_the_same_kind_shares_all_that_is_compiled():
  config = tiny.config(testing_reward__preferences="policy")
  models = models_of(config)
  assert models.testing_reward is models.reward and models.judging is models
  assert models.testing_trunk is None
  inference = make_inference(config, models, tiny.codec())
  assert inference.testing_reward_scorer is inference.reward_scorer


def test_a_judge_of_its_own_shape_has_its_own_model_and_scorer():
  config = tiny.config(**OWN_SHAPE)
  models = models_of(config)
  judged, trunk = Player("testing_reward"), Player("testing_trunk")
  assert models.of(judged) is models.judging.reward is models.testing_reward
  assert models.of(Player("reward")) is models.reward is not models.testing_reward
  assert models.of(trunk).architecture == models.testing_reward.architecture
  assert models.testing_reward.architecture.embed_dim == 16
  assert models.judging.judging is models.judging
  inference = make_inference(config, models, tiny.codec())
  assert inference.scorer_of(judged) is not inference.scorer_of(Player("reward"))
  assert inference.scorer_of(Player("reward", 2)) is inference.reward_scorer


def test_a_judge_with_weights_of_its_own_has_no_adapters(language_model, classifier):
  adapted = {"model__checkpoint": str(language_model), "reward__lora__rank": 2}
  twin = models_of(tiny.config(**adapted))
  assert twin.testing_reward is twin.reward
  own = models_of(tiny.config(**adapted, testing_reward__checkpoint=str(classifier)))
  assert own.reward.lora is not None and own.testing_reward.lora is None
  assert own.testing_reward.architecture == own.reward.architecture


def test_origins_know_the_judges_checkpoint(classifier):
  config = tiny.config(tokenizer__path=str(classifier), testing_reward__checkpoint=str(classifier))
  origins = find_origins(config)
  field = "config.testing_reward.checkpoint"
  assert list(origins.fingerprints) == [field]
  assert origins.split_sizes().keys() == {"config.model", field}
  # The classifier's 330 tokens are fewer than the policy's 384.
  assert origins.vocab_size == 330 == origins.testing_reward.vocab_size
  assert origins.reward == origins.policy


def test_origins_know_the_judges_shape():
  origins = find_origins(tiny.config(**OWN_SHAPE))
  assert origins.testing_reward.vocab_size == origins.policy.vocab_size
  assert origins.split_sizes()["config.testing_reward.shape"]["embed_dim"] == 16
  assert origins.split_sizes()["config.model"]["embed_dim"] == 32


def test_no_random_draw_is_shared_with_the_games_reward_model(planned, monkeypatch, tmp_path):
  drawn, derive_seed = [], judge.derive_seed

  def recorded(seed, *purpose):
    drawn.append(purpose)
    return derive_seed(seed, *purpose)

  for module in (training, judge):
    monkeypatch.setattr(module, "derive_seed", recorded)
  monkeypatch.setattr(training, "judge_facts", lambda *_: {})  # draws nothing, but names both seeds
  run = run_of(tmp_path, **OWN_SHAPE)
  run.parameters.of = lambda player: {}
  purposes = []
  for play in (
    training.train_reward_base,
    training.train_testing_trunk,
    training.train_testing_reward,
  ):
    drawn.clear()
    play(run)
    planned[-1].start()
    assert {purpose[0] for purpose in drawn} == {"init", "shuffle"}
    purposes.append(set(drawn))
  assert all(not one & other for one, other in itertools.combinations(purposes, 2))
  # Dropout's keys are drawn by round and phase (`training_phase.play`).
  assert len({(phase.player.round, phase.player.phase) for phase in planned}) == 3


def test_a_twin_has_a_head_of_its_own(planned, tmp_path):
  run = run_of(tmp_path)
  run.parameters.of = lambda player: {}
  for play in (training.train_reward_base, training.train_testing_reward):
    play(run)
  base, ours = (phase.start()["reward_head"] for phase in planned)
  assert base.shape == ours.shape and not np.any(base == ours)
  facts = read_json(tmp_path / "rounds/00/judge.json")
  assert facts["seed"] != facts["reward_seed"]
  assert [phase.started_from for phase in planned] == ["00_supervised", "00_supervised"]


def test_a_judge_of_its_own_shape_starts_from_its_trunk(planned, tmp_path):
  run = run_of(tmp_path, **OWN_SHAPE)
  training.train_testing_reward(run)
  (phase,) = planned
  assert phase.started_from == "00_testing_trunk"
  assert phase.start()["trunk"] == {"of": run.players.testing_trunk}


def test_a_judge_of_its_own_checkpoint_starts_from_it(planned, tmp_path, classifier):
  run = run_of(tmp_path, testing_reward__checkpoint=str(classifier))
  training.train_testing_reward(run)
  (phase,) = planned
  made = phase.start()
  assert phase.started_from == str(classifier)
  abstract = run.models.testing_reward.abstract
  assert jax.tree.structure(made) == jax.tree.structure(abstract)
  assert jax.tree.map(np.shape, made) == jax.tree.map(lambda leaf: leaf.shape, abstract)
  assert trunk_of(made["trunk"]).keys() == made["trunk"].keys()


@pytest.mark.parametrize(("preferences", "number", "shared"), [("all", 64, 32), ("policy", 32, 0)])
def test_facts_count_what_both_learn_from(tmp_path, preferences, number, shared):
  run = run_of(tmp_path, testing_reward__preferences=preferences)
  facts = judge.judge_facts(run.config, run.models, run.data)
  assert (facts["preferences"], facts["shared_preferences"]) == (number, shared)
  assert facts["shares_start"] and facts["parameters"] == facts["reward_parameters"]
  learned = judge.preferences_of_judge(run.config, run.data)
  assert len(learned) == number


def test_facts_of_a_judge_of_its_own(tmp_path):
  run = run_of(tmp_path, **OWN_SHAPE)
  facts = judge.judge_facts(run.config, run.models, run.data)
  assert not facts["shares_start"]
  # 384 rows of 16 features; a layer; the last norm; the head.
  layer = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 32 + 2 * 16
  assert facts["parameters"] == 384 * 16 + layer + 16 + 16


def test_a_copy_of_the_games_checkpoint_is_no_other_start(classifier, tmp_path):
  copy = checkpoints.write(tmp_path / "copy", reward=True, seed=1)
  run = run_of(tmp_path, reward__checkpoint=str(classifier), testing_reward__checkpoint=str(copy))
  facts = judge.judge_facts(run.config, run.models, run.data)
  assert facts["starts_from"] != facts["reward_starts_from"] and facts["shares_start"]
