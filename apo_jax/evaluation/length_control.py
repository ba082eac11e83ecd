"""A win rate with the part of it that length explains taken out (arXiv 2404.04475, AlpacaEval 2).

Which of two responses wins is a logistic regression on how much longer one of them is:

    P(ours wins | x) = sigmoid(theta + phi tanh((|y| - |y'|) / s))

where s is the standard deviation of the differences in length. The length-controlled win rate is
what the model predicts at no difference, sigmoid(theta). The paper's term for how hard a query is
takes many models to be known, and is left out here, where two are compared.

theta and phi minimise the cross-entropy, a tie as half a win, plus phi^2 / 2: the prior N(0, 1) of
phi keeps it finite where length tells wins from losses.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from apo_jax.evaluation.uncertainty import Estimate, jackknife

_MOST_STEPS = 100
_TOLERANCE = 1e-10


def length_controlled_win_rate(
  wins: Float[ndarray, " n"], differences: Float[ndarray, " n"]
) -> Estimate:
  """The win rate at equal lengths, with its jackknife over queries; nan without any.

  Args:
    wins: 1 where ours wins, 0 where it loses, 1/2 on a tie; a share where there are several pairs.
    differences: how much longer ours is, in any unit.
  """
  count = len(wins)
  if not count:
    return Estimate(float("nan"), np.zeros(0))
  whole = _fitted(wins, differences, (0.0, 0.0))
  near = (0.0, 0.0) if whole is None else whole
  without = np.array(
    [
      _controlled(wins[row], _fitted(wins[row], differences[row], near))
      for row in ~np.eye(count, dtype=bool)
    ]
  )
  return jackknife(_controlled(wins, whole), without)


def fit(
  wins: Float[ndarray, " n"],
  features: Float[ndarray, " n"],
  start: tuple[float, float] = (0.0, 0.0),
) -> tuple[float, float]:
  """theta and phi by Newton's method; there must be some win and some loss, ties being both."""
  theta_phi = np.array(start, float)
  design = np.stack([np.ones_like(features), features], axis=1)
  penalty = np.array([0.0, 1.0])
  for _ in range(_MOST_STEPS):
    chance = _sigmoid(design @ theta_phi)
    gradient = design.T @ (chance - wins) + penalty * theta_phi
    if np.max(np.abs(gradient)) < _TOLERANCE * len(wins):
      break
    curvature = design.T @ (design * (chance * (1 - chance))[:, None]) + np.diag(penalty)
    step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
    before = _loss(theta_phi, design, wins)
    # The loss is convex: half a step that is too long is shorter, and some is short enough.
    while _loss(theta_phi - step, design, wins) > before and np.max(np.abs(step)) > _TOLERANCE:
      step = step / 2
    theta_phi = theta_phi - step
  return float(theta_phi[0]), float(theta_phi[1])


def _fitted(
  wins: Float[ndarray, " n"], differences: Float[ndarray, " n"], start: tuple[float, float]
) -> tuple[float, float] | None:
  """theta and phi; None where there are only wins or only losses, and theta would be infinite."""
  if np.all(wins == 1) or np.all(wins == 0):
    return None
  spread = float(np.std(differences))
  features = np.tanh(differences / spread) if spread > 0 else np.zeros_like(differences)
  return fit(wins, features, start)


def _controlled(wins: Float[ndarray, " n"], fitted: tuple[float, float] | None) -> float:
  if not len(wins):
    return float("nan")
  return float(wins[0]) if fitted is None else float(_sigmoid(np.array([fitted[0]]))[0])


def _loss(theta_phi: Float[ndarray, "2"], design: Float[ndarray, "n 2"], wins: ndarray) -> float:
  logits = design @ theta_phi
  return float(np.sum(np.logaddexp(0.0, logits) - wins * logits) + theta_phi[1] ** 2 / 2)


def _sigmoid(logits: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
  return np.exp(-np.logaddexp(0.0, -logits))
