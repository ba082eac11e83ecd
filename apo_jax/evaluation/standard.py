"""The numbers that every round has."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from apo_jax.evaluation.judged_round import JudgedRound
from apo_jax.evaluation.text import distinct_2, longer_wins_accuracy
from apo_jax.evaluation.win_rate import win_rate
from apo_jax.objectives import calibration_errors, preference_accuracy


def standard_numbers(judged: JudgedRound, *, calibration_bins: int) -> dict[str, Any]:
  """Returns the numbers of evaluation.json by name, and the bins of calibration.

  `kl_to_start` is the mean of log pi(y|x) - log pi_start(y|x) over the policy's own samples: an
  unbiased estimate of KL[pi || pi_start] where they are drawn at temperature 1 without filters and
  end by eos (what a stop string ended is scored as if eos stood there).
  """
  rewards, start_rewards = (
    np.mean(array, axis=1) for array in (judged.rewards, judged.start_rewards)
  )
  scores = jnp.asarray(judged.preference_scores, jnp.float32)

  def accuracy(values: np.ndarray) -> float:
    return float(preference_accuracy(jnp.asarray(values, jnp.float32), scores))

  trained = jnp.asarray(judged.trained_preference_rewards, jnp.float32)
  errors = calibration_errors(trained, scores, num_bins=calibration_bins)
  golden_margin = np.mean(judged.trained_golden_rewards) - np.mean(judged.trained_rewards)
  utility = None if judged.utilities is None else float(np.mean(judged.utilities))
  return {
    "round": judged.number,
    "true_utility": utility,
    "testing_reward": float(np.mean(judged.rewards)),
    "win_rate_golden": win_rate(rewards.tolist(), judged.golden_rewards.tolist()),
    "win_rate_start": win_rate(rewards.tolist(), start_rewards.tolist()),
    "kl_to_start": float(np.mean(judged.logprobs - judged.start_logprobs)),
    "response_length": float(np.mean(judged.lengths)),
    "distinct_2": distinct_2([text for texts in judged.texts for text in texts]),
    "golden_margin": float(golden_margin),
    "reward_accuracy": accuracy(judged.trained_preference_rewards),
    "reward_ece": float(errors["ece"]),
    "reward_ace": float(errors["ace"]),
    "reward_mce": float(errors["mce"]),
    "testing_accuracy": accuracy(judged.preference_rewards),
    "longer_wins_accuracy": longer_wins_accuracy(
      judged.preference_lengths, judged.preference_scores
    ),
    "calibration": {
      "confidence": errors["confidence"],
      "accuracy": errors["accuracy"],
      "count": errors["count"].astype(int),
    },
  }
