"""Who is called what, and who starts from whom."""

import pytest

from apo_jax.run.players import Player, Players
from tests import tiny


@pytest.mark.parametrize(
  ("player", "name", "phase"),
  [
    (Player("policy"), "00_supervised", "supervised"),
    (Player("reward"), "00_reward_base", "reward_base"),
    (Player("testing_reward"), "00_testing_reward", "testing_reward"),
    (Player("testing_trunk"), "00_testing_trunk", "testing_trunk"),
    (Player("policy", 1), "01_policy", "policy"),
    (Player("reward", 12), "12_reward", "reward"),
  ],
)
def test_a_player_is_named_for_the_phase_that_made_it(player, name, phase):
  assert (player.name, player.phase) == (name, phase)
  assert player.is_policy == (player.kind == "policy")


def test_players_are_values():
  assert Player("policy", 1) == Player("policy", 1) != Player("reward", 1)
  assert len({Player("reward"), Player("reward", 0), Player("testing_reward")}) == 2


def test_a_round_starts_from_the_last_one():
  players = Players(tiny.config())
  assert players.policy_start(1) == players.policy_after(0) == Player("policy")
  assert players.policy_start(3) == players.reference(3) == Player("policy", 2)
  assert players.reward_start(3) == players.reward_after(2) == Player("reward", 2)
  assert players.testing_reward == Player("testing_reward")


def test_the_judge_starts_as_the_games_reward_model_does_or_from_its_own():
  def origins(**overrides) -> tuple[str, str]:
    players = Players(tiny.config(**overrides))
    base, judge = players.reward_after(0), players.testing_reward
    return players.origin_of_rewards(base), players.origin_of_rewards(judge)

  given = {"model__checkpoint": "language/model"}
  assert origins() == ("00_supervised", "00_supervised")
  assert origins(**given, reward__lora__rank=2) == ("language/model", "language/model")
  assert origins(reward__checkpoint="classifier") == ("classifier", "classifier")
  assert origins(testing_reward__checkpoint="other") == ("00_supervised", "other")
  assert origins(testing_reward__shape=tiny.JUDGE) == ("00_supervised", "00_testing_trunk")


def test_a_round_may_start_from_the_base():
  players = Players(tiny.config(policy__start="base", reward__start="base"))
  assert players.policy_start(3) == players.reference(3) == Player("policy")
  assert players.reward_start(3) == Player("reward")
  assert players.policy_after(3) == Player("policy", 3)


def test_the_reference_may_be_the_very_first_policy():
  players = Players(tiny.config(policy__reference="initial"))
  assert players.reference(3) == Player("policy") != players.policy_start(3)


def test_the_reference_started_from_the_policy_before_it():
  players = Players(tiny.config(policy__loss="sequential_po"))
  assert players.earlier_reference(3) == Player("policy", 1)
  assert players.earlier_reference(2) == Player("policy")
  assert players.earlier_reference(1) == players.reference(1) == Player("policy")


def test_without_rewards_no_reward_model_is_trained():
  players = Players(tiny.config(policy__loss="spin"))
  assert players.reward_after(3) == Player("reward")


def test_a_fixed_reward_model_stays_the_base():
  players = Players(tiny.config(reward__mode="fixed"))
  assert players.reward_after(3) == players.reward_start(3) == Player("reward")
