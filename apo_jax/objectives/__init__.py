"""Losses and metrics of the game as pure functions of arrays: no model, no I/O, no state.

Everything computes in float32, can be jitted and differentiated, and ignores masked positions
in value and gradient. Losses are a sum divided by a `normalizer`, see `normalizer.py`.
"""

from apo_jax.objectives.accuracy import preference_accuracy
from apo_jax.objectives.apo_reward import apo_reward_loss, apo_reward_normalizers
from apo_jax.objectives.calibration import calibration_errors
from apo_jax.objectives.dpo import dpo_loss
from apo_jax.objectives.normalizer import Normalizer
from apo_jax.objectives.pairs import pairs_from_scores
from apo_jax.objectives.ranking import count_pairs, ranking_loss
from apo_jax.objectives.rjs import best_response, count_queries, rjs_loss
from apo_jax.objectives.rrhf import rrhf_loss

__all__ = [
  "Normalizer",
  "apo_reward_loss",
  "apo_reward_normalizers",
  "best_response",
  "calibration_errors",
  "count_pairs",
  "count_queries",
  "dpo_loss",
  "pairs_from_scores",
  "preference_accuracy",
  "ranking_loss",
  "rjs_loss",
  "rrhf_loss",
]
