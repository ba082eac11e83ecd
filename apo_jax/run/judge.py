"""The judge, or testing reward model: what it learns from, and how independent it is.

A judge that has much in common with the game's reward model, its starting trunk above all, is
fooled by the same tricks: its rewards of a policy may rise while the policy gets no better.
"""

from collections.abc import Mapping
from typing import Any

from apo_jax.config.schema import Config, TrainingConfig
from apo_jax.data.records import Preference
from apo_jax.data.tokenised import Tokenised, TokenisedData
from apo_jax.models.parameters import count
from apo_jax.run.models import Models
from apo_jax.run.players import Player, Players
from apo_jax.run.seeds import derive_seed


def training_of_judge(config: Config) -> TrainingConfig:
  """How the judge is trained."""
  return config.testing_reward.training or config.reward.base


def preferences_of_judge(config: Config, data: TokenisedData) -> tuple[Tokenised[Preference], ...]:
  """What the judge is trained on, if for any epoch."""
  if config.testing_reward.preferences == "policy":
    return data.policy.preferences
  return (*data.reward.preferences, *data.policy.preferences)


def head_seed(config: Config, player: Player) -> int:
  """The seed of a reward model's new head and adapters, no two players' alike."""
  return derive_seed(config.seed, "init", player.phase)


def judge_facts(config: Config, models: Models, data: TokenisedData) -> dict[str, Any]:
  """What the judge has in common with the game's reward model; what judge.json holds.

  Returns:
    starts_from, reward_starts_from: a player's name or a checkpoint, of each of the two;
    shares_start: both are one;
    parameters, reward_parameters: how many each has, frozen ones included;
    preferences: how many the judge learns from;
    shared_preferences: how many of them the game's reward model learns from too;
    seed, reward_seed: of their heads; batches and dropout have seeds of their own as well.
  """
  players = Players(config)
  judge, base = players.testing_reward, players.reward_after(0)
  starts = players.origin_of_rewards(judge), players.origin_of_rewards(base)
  learned = preferences_of_judge(config, data) if training_of_judge(config).epochs else ()
  known = {_content(preference) for preference in data.reward.preferences}
  return {
    "starts_from": starts[0],
    "reward_starts_from": starts[1],
    "shares_start": starts[0] == starts[1] or _are_copies(models.origins.fingerprints),
    "parameters": count(models.testing_reward.abstract),
    "reward_parameters": count(models.reward.abstract),
    "preferences": len(learned),
    "shared_preferences": sum(_content(preference) in known for preference in learned),
    "seed": head_seed(config, judge),
    "reward_seed": head_seed(config, base),
  }


def describe_judge(facts: Mapping[str, Any]) -> str:
  """How independent the judge is, in plain sentences, from `judge_facts`."""
  start, theirs = _in_words(facts["starts_from"]), _in_words(facts["reward_starts_from"])
  sizes = f"{facts['parameters'] / 1e6:,.2f} M parameters"
  if facts["shares_start"]:
    what = (
      f"The judge ({sizes}) starts from {start}, as the game's reward model does, so that it may be"
      " fooled by the same tricks."
    )
  else:
    what = (
      f"The judge ({sizes}) starts from {start}, the game's reward model"
      f" ({facts['reward_parameters'] / 1e6:,.2f} M) from {theirs}."
    )
  number, shared = facts["preferences"], facts["shared_preferences"]
  of_them = f"{shared:,} of which" if shared else "none of which"
  return (
    f"{what} It learns from {number:,} preferences, {of_them} the game's reward model learns from"
    " too; its random draws are its own."
  )


def _in_words(start: str) -> str:
  """What a reward model starts from: a checkpoint keeps its name."""
  words = {
    Player("policy").name: "the policy's supervised start",
    Player("testing_trunk").name: "a trunk of its own, which learned the demonstrations",
  }
  return words.get(start, start)


def _are_copies(fingerprints: Mapping[str, str]) -> bool:
  """Whether both reward models' checkpoints hold the same under two names."""
  own = fingerprints.get("config.testing_reward.checkpoint")
  return own is not None and own == fingerprints.get("config.reward.checkpoint")


def _content(preference: Tokenised[Preference]) -> tuple[str, tuple[str, ...]]:
  return preference.record.query, preference.record.responses
