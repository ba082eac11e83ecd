"""The table of what phases read, against what they read while a game is played."""

import pytest

from apo_jax.config.schema import Config
from apo_jax.run.phase_inputs import (
  PhaseName,
  Surroundings,
  inputs_of,
  phase_keys,
  phase_names,
  replayed_rounds,
)
from tests import recorded_game, tiny

# What of the config the parts are made from that phases find ready: models and scorers.
POLICY = ("model", "tokenizer", "data", "mesh", "policy.lora")
REWARD = ("model", "tokenizer", "data", "mesh", "reward.checkpoint", "reward.lora")
REWARD = (*REWARD, "reward.pooling", "reward.terms")
JUDGE = (*REWARD, "testing_reward.checkpoint", "testing_reward.shape")
SCORER = ("data", "evaluation.batch_size", "sampling.evaluation.max_new_tokens")
MADE_FROM = {
  "models.policy": POLICY,
  "models.reward": REWARD,
  "models.testing_reward": JUDGE,
  "models.testing_trunk": ("model", "tokenizer", "mesh", "testing_reward.shape"),
  "models.mesh": ("mesh",),
  "models.origins": (),  # each of its attributes is noted
  "models.query_length": ("data",),
  "models.row_lengths": ("data",),
  "models.sample_length": ("data", "sampling.training.max_new_tokens"),
  "models.judged_length": ("data", "sampling.evaluation.max_new_tokens"),
  "origins.policy": ("model", "tokenizer"),
  "origins.policy_checkpoint": ("model",),
  "origins.reward": ("model", "reward.checkpoint"),
  "origins.testing_reward": (
    "model",
    "reward.checkpoint",
    "testing_reward.checkpoint",
    "testing_reward.shape",
  ),
  "origins.reward_checkpoint": ("reward.checkpoint",),
  "origins.testing_reward_checkpoint": ("testing_reward.checkpoint",),
  "inference.sampler": (
    *POLICY,
    "sampling.batch_size",
    "sampling.cache_dtype",
    "sampling.gather_weights",
  ),
  "inference.reward_scorer": (*REWARD, *SCORER),
  "inference.testing_reward_scorer": (*JUDGE, *SCORER),
  "inference.logprob_scorer": (*POLICY, *SCORER),
}
# Read by phases, without a change of what they give.
WITHOUT_EFFECT = {
  "testing_reward.json": ("reward.mode",),  # the reward model of round 0 is one in all modes
  "policy_samples.jsonl": ("policy.loss",),  # asks whether golden responses are read: named then
}


def within(field: str, sections: tuple[str, ...]) -> bool:
  return any(field == one or field.startswith(f"{one}.") for one in sections)


def check_table(config: Config, reads: recorded_game.Reads) -> None:
  """Checks that every phase read only what its entry names, and the parts what stands above."""
  for part in recorded_game.PARTS:
    named = [field for one, made in MADE_FROM.items() if one.startswith(part) for field in made]
    unnamed = {field for field in reads.fields[part] if not within(field, tuple(named))}
    assert not unnamed, f"{part} are made from {unnamed}"
  for name in set(reads.fields) - set(recorded_game.PARTS):
    fields, phases = inputs_of(config, name)
    allowed = (*fields, "checkpoints", *WITHOUT_EFFECT.get(name.result, ()))
    direct = {
      field for field in reads.fields[name] if field.split(".")[0] not in recorded_game.PARTS
    }
    of_parts = {field for one in reads.fields[name] - direct for field in MADE_FROM[one]}
    unnamed = {field for field in direct | of_parts if not within(field, allowed)}
    assert not unnamed, f"{name.words} reads {unnamed}, which its entry does not name"
    for player in reads.players[name]:
      made = PhaseName(player.round, f"{player.phase}.json")
      assert made in (*phases, name), f"{name.words} reads {player}"
    for file in reads.files[name]:
      assert recorded_game.writers(*file) & {*phases, name}, f"{name.words} reads {file}"


def test_every_phase_is_in_the_table():
  changes = [
    {},
    {"rounds": 1, "reward__mode": "fixed", "testing_reward__shape": tiny.JUDGE},
    {"reward__mode": "preferences_only"},
    {"policy__loss": "spin"},
    {"policy__loss": "sequential_po", "policy__replay": (0.5, 0.25), "rounds": 3},
  ]
  for change in changes:
    config = tiny.config(**change)
    names = phase_names(config)
    assert len(set(names)) == len(names) == len(phase_keys(config))
    for number, name in enumerate(names):
      assert set(inputs_of(config, name).phases) <= set(names[:number]), name.words


def changed(path: str, value: object) -> list[str]:
  """The phases of a game whose keys change with a field."""
  config = tiny.config(**{path.replace(".", "__"): value})
  before, after = phase_keys(tiny.config()), phase_keys(config)
  assert before.keys() == after.keys()
  return [name.words for name in before if before[name] != after[name]]


ALL = [name.words for name in phase_names(tiny.config())]
SCORE_ON = ALL[ALL.index("round 1 score") :]
# All but what the round's first policy says.
REWARD_ON = ["round 1 reward", *SCORE_ON]


@pytest.mark.parametrize(
  ("path", "value", "expected"),
  [
    ("policy.loss", "rjs", SCORE_ON),
    ("policy.dpo.beta", 0.5, SCORE_ON),
    ("policy.rrhf.ranking_coefficient", 3.0, []),  # not the loss that is chosen
    ("rounds", 2, []),
    ("memory.park_idle_player", True, []),
    ("checkpoints.keep", 7, []),
    ("seed", 3, ALL),
    ("data.num_queries", 15, ALL),
    # The reference is the round's start. The round's samples are those of the policy before it.
    ("policy.start", "base", ALL[ALL.index("round 2 score") :]),
    ("policy.reference", "initial", ALL[ALL.index("round 2 score") :]),
    ("reward.start", "base", ["round 2 reward", *ALL[ALL.index("round 2 score") :]]),
    # What weighs both terms is nothing to preferences alone.
    ("reward.weighting", "min_norm", REWARD_ON),
    ("sampling.training.temperature", 0.7, ALL[ALL.index("round 1 golden samples") :]),
  ],
)
def test_what_a_field_changes(path, value, expected):
  assert changed(path, value) == expected


def test_modes_share_what_comes_before_they_differ():
  keys = {
    mode: phase_keys(tiny.config(reward__mode=mode))
    for mode in ("adversarial", "preferences_only", "fixed")
  }
  shared = set(keys["adversarial"].values()) & set(keys["preferences_only"].values())
  names = {name.words for name, key in keys["adversarial"].items() if key in shared}
  start = {name.words for name in phase_names(tiny.config()) if not name.round}
  assert names == start | {"round 1 policy samples"}
  assert len(start) == 4


def test_a_loss_without_rewards_leaves_rounds_without_a_reward_step():
  keys = phase_keys(tiny.config(policy__loss="spin", rounds=1))
  assert [name.words for name in keys if name.round] == [
    "round 1 policy samples",
    "round 1 score",
    "round 1 policy",
    "round 1 evaluation",
  ]
  # The samples are those of other queries than DPO's.
  assert not set(keys.values()) & {
    key for name, key in phase_keys(tiny.config()).items() if name.round
  }


def test_what_is_replayed():
  config = tiny.config(policy__replay=(0.5, 0.0, 0.25))
  assert replayed_rounds(config, 1) == {}
  assert replayed_rounds(config, 3) == {2: 0.5}
  assert replayed_rounds(config, 4) == {3: 0.5, 1: 0.25}


def test_surroundings_are_in_the_key():
  config = tiny.config()
  plain = phase_keys(config)
  other = phase_keys(config, Surroundings(shared={"data": "another"}))
  assert not set(plain.values()) & set(other.values())
  judge = {"config.testing_reward.checkpoint": "a hash"}
  judged = phase_keys(config, Surroundings(checkpoints=judge))
  differ = [name.words for name in plain if plain[name] != judged[name]]
  evaluations = ["round 0 evaluation", "round 1 evaluation", "round 2 evaluation"]
  assert differ == ["round 0 testing reward", *evaluations]
