"""What the report says of the judge."""

from apo_jax.report.data import Round, Run
from apo_jax.report.judge import judge_section

FACTS = {
  "starts_from": "<some>/classifier",
  "reward_starts_from": "00_supervised",
  "shares_start": False,
  "parameters": 76_032,
  "reward_parameters": 252_480,
  "preferences": 3000,
  "shared_preferences": 1500,
}


def said(facts, *correlations):
  rounds = [
    Round(number, {"judge_error_correlation": one}, {}, [], [], [])
    for number, one in enumerate(correlations)
  ]
  return judge_section(Run("run", {}, [], rounds, facts))


def test_a_judge_of_its_own_is_compared_with_the_games_reward_model():
  text = said(FACTS, 0.75, None, 0.5)
  assert "(0.08 M parameters) starts from &lt;some&gt;/classifier" in text
  assert "(0.25 M) from the policy&#x27;s supervised start" in text
  assert "correlated by 0.75 in the first round and 0.50 in the last" in text
  assert "learns from 3,000 preferences, 1,500 of which" in text


def test_a_twin_is_called_one():
  twin = {"starts_from": "00_supervised", "shares_start": True, "shared_preferences": 0}
  text = said(FACTS | twin)
  assert "as the game&#x27;s reward model does" in text and "same tricks" in text
  assert "none of which" in text


def test_an_older_run_says_nothing_of_its_judge():
  assert said({}) == ""
