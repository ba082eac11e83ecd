"""Writes methods.json: inputs, values and gradients of the policy losses beside DPO, RRHF and RJS.

    python tests/golden/make_methods.py

As in make_objectives.py, each equation is a plain loop in Python's float64, and gradients are
central differences. What is a constant in a loss's gradient is computed from `frozen_logprobs`,
which are the log-probabilities too, but stay where they are. authors.json has numbers of the
authors' own code.
"""

import json
import math
import pathlib

import numpy as np
from make_objectives import draw_inputs, gradient, preferred_pairs, softplus


def log_sigmoid(x):
  return -softplus(-x)


def sigmoid(x):
  return math.exp(log_sigmoid(x))


def softmax(values):
  exponentials = [math.exp(value - max(values)) for value in values]
  return [one / sum(exponentials) for one in exponentials]


def queries(valid, least):
  """Yields each query with at least so many valid responses, and their indices."""
  for b, row in enumerate(valid):
    indices = [k for k, one in enumerate(row) if one]
    if len(indices) >= least:
      yield b, indices


def win_rate(rewards, b, i, indices):
  others = [j for j in indices if j != i]
  return sum(sigmoid(rewards[b][i] - rewards[b][j]) for j in others) / len(others)


def mean(losses):
  return {"loss": sum(losses) / max(len(losses), 1)}


def ipo(logprobs, reference_logprobs, lengths, rewards, valid, beta, over_tokens, pairs):
  def h(b, k):
    ratio = logprobs[b][k] - reference_logprobs[b][k]
    return ratio / lengths[b][k] if over_tokens == "mean" else ratio

  found = preferred_pairs(rewards, valid, pairs)
  return mean([(h(b, w) - h(b, l) - 1 / (2 * beta)) ** 2 for b, w, l in found])  # noqa: E741


def hinge(logprobs, reference_logprobs, lengths, rewards, valid, beta, pairs):
  def h(b, k):
    return beta * (logprobs[b][k] - reference_logprobs[b][k])

  found = preferred_pairs(rewards, valid, pairs)
  return mean([max(0.0, 1 - (h(b, w) - h(b, l))) for b, w, l in found])  # noqa: E741


def simpo(logprobs, reference_logprobs, lengths, rewards, valid, beta, gamma, pairs):
  def p(b, k):
    return beta * logprobs[b][k] / lengths[b][k]

  found = preferred_pairs(rewards, valid, pairs)
  return mean([softplus(-(p(b, w) - p(b, l) - gamma)) for b, w, l in found])  # noqa: E741


def orpo(logprobs, reference_logprobs, lengths, rewards, valid, beta, pairs):
  def odds(b, k):
    p = math.exp(logprobs[b][k] / lengths[b][k])
    return p / (1 - p)

  return mean(
    [
      -logprobs[b][w] / lengths[b][w]
      - beta * math.log(odds(b, w) / odds(b, l) / (1 + odds(b, w) / odds(b, l)))
      for b, w, l in preferred_pairs(rewards, valid, pairs)  # noqa: E741
    ]
  )


def kto(
  logprobs,
  reference_logprobs,
  lengths,
  rewards,
  valid,
  frozen_logprobs,
  beta,
  desirable_weight,
  undesirable_weight,
  baseline,
):
  everything = [(b, k) for b, indices in queries(valid, 1) for k in indices]
  drift = [frozen_logprobs[b][k] - reference_logprobs[b][k] for b, k in everything]
  z = max(0.0, sum(drift) / len(drift))
  losses = []
  for b, indices in queries(valid, 1):
    rows = {"query": [(b, k) for k in indices], "batch": everything}.get(baseline)
    level = sum(rewards[c][k] for c, k in rows) / len(rows) if rows else 0.0
    for k in indices:
      h = logprobs[b][k] - reference_logprobs[b][k]
      if rewards[b][k] > level:
        losses.append(desirable_weight * (1 - sigmoid(beta * (h - z))))
      elif rewards[b][k] < level:
        losses.append(undesirable_weight * (1 - sigmoid(beta * (z - h))))
  return mean(losses)


def sppo(logprobs, reference_logprobs, lengths, rewards, valid, beta, labels):
  targets = {}
  if labels == "soft":
    for b, indices in queries(valid, 2):
      for i in indices:
        targets[b, i] = win_rate(rewards, b, i, indices)
  else:
    for b, w, l in preferred_pairs(rewards, valid, "best_worst"):  # noqa: E741
      targets[b, w], targets[b, l] = 1.0, 0.0
  return mean(
    [
      (logprobs[b][k] - reference_logprobs[b][k] - (win - 0.5) / beta) ** 2
      for (b, k), win in targets.items()
    ]
  )


def infonca(logprobs, reference_logprobs, lengths, rewards, valid, beta, alpha):
  losses = []
  for b, indices in queries(valid, 2):
    targets = softmax([rewards[b][k] / alpha for k in indices])
    chosen = softmax([beta * (logprobs[b][k] - reference_logprobs[b][k]) for k in indices])
    losses.append(-sum(t * math.log(p) for t, p in zip(targets, chosen, strict=True)))
  return mean(losses)


def nca(logprobs, reference_logprobs, lengths, rewards, valid, beta, alpha):
  losses = []
  for b, indices in queries(valid, 2):
    loss, targets = 0.0, softmax([rewards[b][k] / alpha for k in indices])
    for k, target in zip(indices, targets, strict=True):
      h = beta * (logprobs[b][k] - reference_logprobs[b][k])
      loss -= target * log_sigmoid(h) + log_sigmoid(-h) / len(indices)
    losses.append(loss)
  return mean(losses)


def dno(logprobs, reference_logprobs, lengths, rewards, valid, beta, label_scale):
  losses = []
  for b, indices in queries(valid, 2):
    for i in indices:
      for j in indices:
        if i < j:
          lead = win_rate(rewards, b, i, indices) - win_rate(rewards, b, j, indices)
          p = sigmoid(label_scale * lead)
          ratio_i = logprobs[b][i] - reference_logprobs[b][i]
          ratio_j = logprobs[b][j] - reference_logprobs[b][j]
          h = beta * (ratio_i - ratio_j)
          losses.append(-p * log_sigmoid(h) - (1 - p) * log_sigmoid(-h))
  return mean(losses)


def dno_prct(
  logprobs, reference_logprobs, lengths, rewards, valid, beta, least_win_rate, least_margin
):
  losses = []
  for b, indices in queries(valid, 2):
    wins = {k: win_rate(rewards, b, k, indices) for k in indices}
    best = min(indices, key=lambda k: (-rewards[b][k], k))
    for i in indices:
      for j in indices:
        is_winner = i == best or wins[i] >= least_win_rate
        if is_winner and wins[i] - wins[j] >= least_margin:
          ratio_i = logprobs[b][i] - reference_logprobs[b][i]
          ratio_j = logprobs[b][j] - reference_logprobs[b][j]
          losses.append(softplus(-beta * (ratio_i - ratio_j)))
  return mean(losses)


def standardised(rewards, b, indices):
  """Returns the rewards' deviations in standard deviations; None where all are equal."""
  values = [rewards[b][k] for k in indices]
  middle = sum(values) / len(values)
  spread = math.sqrt(sum((value - middle) ** 2 for value in values) / len(values))
  return [(value - middle) / spread for value in values] if spread else None


def swepo(logprobs, reference_logprobs, lengths, rewards, valid, beta, alpha, deviation, power):
  losses = []
  for b, indices in queries(valid, 2):
    z = standardised(rewards, b, indices)
    if z is None:
      continue
    every = better = 0.0
    for k, one in zip(indices, z, strict=True):
      weight = abs(one) ** power if power else 0.0
      if deviation == "signed" and one < 0:
        weight = -weight
      h = beta * (logprobs[b][k] - reference_logprobs[b][k])
      every += math.exp(h + alpha * weight)
      better += math.exp(h + alpha * weight) if one > 0 else 0.0
    losses.append(-math.log(better / every))
  return mean(losses)


def gains_of(rewards, b, indices):
  """Returns gains of rewards in [0, 1], and the best sum of them; None where all are equal."""
  values = [rewards[b][k] for k in indices]
  low, high = min(values), max(values)
  if low == high:
    return None
  gains = [2 ** ((value - low) / (high - low)) - 1 for value in values]
  best = sum(g / math.log2(k + 2) for k, g in enumerate(sorted(gains, reverse=True)))
  return gains, best


def ndcg_approx(logprobs, reference_logprobs, lengths, rewards, valid, beta, alpha):
  losses = []
  for b, indices in queries(valid, 2):
    found = gains_of(rewards, b, indices)
    if found is None:
      continue
    s = [beta * (logprobs[b][k] - reference_logprobs[b][k]) for k in indices]
    total = 0.0
    for i, gain in enumerate(found[0]):
      rank = 1 + sum(sigmoid(alpha * (s[j] - s[i])) for j in range(len(s)) if j != i)
      total += gain / math.log2(1 + rank)
    losses.append(-total / found[1])
  return mean(losses)


def ndcg_diffsort(logprobs, reference_logprobs, lengths, rewards, valid, beta, steepness):
  losses = []
  for b, indices in queries(valid, 2):
    ordered = sorted(indices, key=lambda k: (-rewards[b][k], k))
    found = gains_of(rewards, b, ordered)
    if found is None:
      continue
    s = [beta * (logprobs[b][k] - reference_logprobs[b][k]) for k in ordered]
    g = list(found[0])
    for layer in range(len(s)):
      for u in range(layer % 2, len(s) - 1, 2):
        a = 0.5 + math.atan(steepness * (s[u] - s[u + 1])) / math.pi
        s[u], s[u + 1] = a * s[u] + (1 - a) * s[u + 1], (1 - a) * s[u] + a * s[u + 1]
        g[u], g[u + 1] = a * g[u] + (1 - a) * g[u + 1], (1 - a) * g[u] + a * g[u + 1]
    losses.append(-sum(gain / math.log2(k + 2) for k, gain in enumerate(g)) / found[1])
  return mean(losses)


def ndcg_neuralsort(logprobs, reference_logprobs, lengths, rewards, valid, beta, tau):
  losses = []
  for b, indices in queries(valid, 2):
    found = gains_of(rewards, b, indices)
    if found is None:
      continue
    s = [beta * (logprobs[b][k] - reference_logprobs[b][k]) for k in indices]
    n = len(s)
    apart = [sum(abs(one - other) for other in s) for one in s]
    p = [softmax([((n - 1 - 2 * k) * s[j] - apart[j]) / tau for j in range(n)]) for k in range(n)]
    for _ in range(50):
      columns = [sum(p[k][j] for k in range(n)) for j in range(n)]
      p = [[p[k][j] / columns[j] for j in range(n)] for k in range(n)]
      p = [[one / sum(row) for one in row] for row in p]
    total = 0.0
    for k in range(n):
      total += sum(p[k][j] * found[0][j] for j in range(n)) / math.log2(k + 2)
    losses.append(-total / found[1])
  return mean(losses)


def offline_clip(
  logprobs,
  reference_logprobs,
  lengths,
  rewards,
  valid,
  frozen_logprobs,
  clip,
  kl_coefficient,
  normalise,
):
  losses = []
  for b, indices in queries(valid, 2):
    middle = sum(rewards[b][k] for k in indices) / len(indices)
    z = standardised(rewards, b, indices) or [0.0] * len(indices)
    for k, one in zip(indices, z, strict=True):
      frozen = (frozen_logprobs[b][k] - reference_logprobs[b][k]) / lengths[b][k]
      advantage = (one if normalise else rewards[b][k] - middle) - kl_coefficient * frozen
      ratio = math.exp((logprobs[b][k] - reference_logprobs[b][k]) / lengths[b][k])
      inside = min(max(ratio, 1 - clip), 1 + clip)
      losses.append(-min(advantage * ratio, advantage * inside))
  return mean(losses)


PAIRS = ("best_worst", "best_rest", "all")
CASES = [
  *((ipo, {"beta": 0.3, "over_tokens": over, "pairs": "all"}) for over in ("mean", "sum")),
  *((hinge, {"beta": 0.4, "pairs": pairs}) for pairs in PAIRS),
  (simpo, {"beta": 2.5, "gamma": 1.375, "pairs": "all"}),
  (orpo, {"beta": 0.7, "pairs": "best_rest"}),
  *(
    (kto, {"beta": 0.4, "desirable_weight": 1.5, "undesirable_weight": 0.8, "baseline": baseline})
    for baseline in ("query", "batch", "zero")
  ),
  *((sppo, {"beta": 0.2, "labels": labels}) for labels in ("soft", "hard")),
  (infonca, {"beta": 0.4, "alpha": 0.7}),
  (nca, {"beta": 0.4, "alpha": 0.7}),
  (dno, {"beta": 0.4, "label_scale": 3.0}),
  (dno_prct, {"beta": 0.4, "least_win_rate": 0.55, "least_margin": 0.2}),
  *(
    (swepo, {"beta": 0.4, "alpha": 0.6, "deviation": deviation, "power": power})
    for deviation, power in (("abs", 1), ("abs", 2), ("signed", 1), ("signed", 0))
  ),
  (ndcg_approx, {"beta": 0.4, "alpha": 3.0}),
  (ndcg_diffsort, {"beta": 0.4, "steepness": 10.0}),
  (ndcg_neuralsort, {"beta": 0.4, "tau": 0.8}),
  (offline_clip, {"clip": 0.1, "kl_coefficient": 0.2, "normalise": False}),
  (offline_clip, {"clip": 0.1, "kl_coefficient": 0.0, "normalise": True}),
]
PARTLY_CONSTANT = (kto, offline_clip)


def make_cases():
  drawn = draw_inputs(np.random.default_rng(0))
  arrays = {
    "logprobs": drawn["policy_logprobs"],
    "reference_logprobs": drawn["reference_logprobs"],
    "lengths": drawn["lengths"],
    "rewards": drawn["policy_rewards"],
    "valid": drawn["valid"],
  }
  cases = []
  for function, options in CASES:
    frozen = {"frozen_logprobs": arrays["logprobs"]} if function in PARTLY_CONSTANT else {}
    read = {**arrays, **frozen}
    cases.append(
      {
        "objective": function.__name__,
        "options": options,
        "loss": function(**read, **options)["loss"],
        "gradient": gradient(function, read, "logprobs", options),
      }
    )
  return arrays, cases


if __name__ == "__main__":
  path = pathlib.Path(__file__).with_name("methods.json")
  arrays, cases = make_cases()
  lines = ",\n".join(map(json.dumps, cases))
  path.write_text(f'{{"arrays": {json.dumps(arrays)},\n"cases": [\n{lines}\n]}}\n')
