"""The table of what phases read, against what they read while a game is played."""

from apo_jax.run.phase_inputs import (
  PhaseName,
  inputs_of,
  phase_keys,
  phase_names,
)
from tests import recorded_game, tiny

# What of the config the parts are made from that phases find ready: models and scorers.
POLICY = ("model", "tokenizer", "data", "mesh", "policy.lora")
REWARD = ("model", "tokenizer", "data", "mesh", "reward.checkpoint", "reward.lora")
REWARD = (*REWARD, "reward.pooling")
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
# What a run needs to be set up and no phase reads: how long it plays, and what it says and keeps.
SETUP_ALONE = ("rounds", "memory", "checkpoints", "logging")
# Read by phases, without a change of what they give.
WITHOUT_EFFECT = ("checkpoints",)
# What decides whom a phase reads, which stands in the table by the phases.
WHO_PLAYS = ("reward.start", "policy.start", "policy.reference")


def within(field: str, sections: tuple[str, ...]) -> bool:
  return any(field == one or field.startswith(f"{one}.") for one in sections)


def check(config, reads: recorded_game.Reads) -> None:
  """Checks that every phase read only what its entry names, and the setup what parts name."""
  assert set(reads.fields) == {recorded_game.SETUP, *phase_names(config)}
  for name in phase_names(config):
    fields, phases = inputs_of(config, name)
    allowed = (*fields, *WITHOUT_EFFECT)
    read = {
      field
      for one in reads.fields[name]
      for field in (
        MADE_FROM[one] if one.split(".")[0] in ("models", "inference", "origins") else [one]
      )
    }
    unnamed = {field for field in read if not within(field, allowed)}
    assert not unnamed, f"{name.words} reads {unnamed}, which its entry does not name"
    for player in reads.players[name]:
      made = PhaseName(player.round, f"{player.phase}.json")
      assert made in (*phases, name), f"{name.words} reads {player}"
    for file in reads.files[name]:
      assert recorded_game.writers(*file) & {*phases, name}, f"{name.words} reads {file}"
  made_from = {field for fields in MADE_FROM.values() for field in fields}
  parts = (*made_from, *SETUP_ALONE, "seed")
  # The stop strings are looked at, whether the tokenizer can say them; the sampler gets them again.
  looked_at = ("sampling.training.stop", "sampling.evaluation.stop", *BATCHES)
  read = reads.fields[recorded_game.SETUP]
  assert {field for field in read if not within(field, (*parts, *looked_at))} == set()


def changed(path: str, value: object) -> dict:
  config = tiny.config(**{path.replace(".", "__"): value})
  before, after = phase_keys(tiny.config()), phase_keys(config)
  assert before.keys() == after.keys()
  return {name for name in before if before[name] != after[name]}
