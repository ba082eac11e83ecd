"""Writes objectives.json: inputs, values and gradients of every objective, independently computed.

    python tests/golden/make_objectives.py

Each equation is a plain loop over queries and pairs in Python's float64; gradients are central
differences of those loops. Nothing is shared with apo_jax. NumPy only draws the inputs.
"""

import json
import math
import pathlib

import numpy as np

BATCH, RESPONSES = 5, 4
KINDS = ("ranking", "difference")


def softplus(x):
  return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def preferred_pairs(scores, valid, selection="all"):
  """Yields (b, i, j) where response i of query b is preferred to j."""
  for b, row in enumerate(scores):
    indices = [k for k in range(len(row)) if valid[b][k]]
    if not indices:
      continue
    best = min(indices, key=lambda k: (-row[k], k))
    worst = min(indices, key=lambda k: (row[k], k))
    for i in indices:
      for j in indices:
        chosen = {
          "all": True,
          "best_rest": i == best,
          "best_worst": i == best and j == worst,
        }[selection]
        if chosen and row[i] > row[j]:
          yield b, i, j


def not_padding(scores):
  return [[score >= 0 for score in row] for row in scores]


def ranking(rewards, scores, kind):
  """Returns the sum of the pair losses and the number of pairs."""
  total, count = 0.0, 0
  for b, i, j in preferred_pairs(scores, not_padding(scores)):
    margin = rewards[b][i] - rewards[b][j]
    total += softplus(-margin) if kind == "ranking" else -margin
    count += 1
  return total, count


def ranking_loss(rewards, scores, kind):
  total, count = ranking(rewards, scores, kind)
  return {"loss": total / max(count, 1)}


def apo_reward_loss(
  preference_rewards,
  apo_rewards,
  preference_scores,
  apo_scores,
  num_samples,
  apo_coefficient,
  preference_coefficient,
  kind,
  reduction,
):
  preference, preference_count = ranking(preference_rewards, preference_scores, "ranking")
  apo, apo_count = ranking(apo_rewards, apo_scores, kind)
  if reduction == "reference":
    # One loop over all rows: each pair loss carries its row's coefficient, one denominator.
    shared = preference_count + apo_count
    total = preference_coefficient * preference + apo_coefficient / num_samples * apo
    return {
      "loss": total / shared,
      "preference_loss": preference / shared,
      "apo_loss": apo / shared,
    }
  preference, apo = preference / preference_count, apo / apo_count
  return {
    "loss": apo_coefficient * apo + preference_coefficient * preference,
    "preference_loss": preference,
    "apo_loss": apo,
  }


def best_indices(rewards, valid):
  """Returns for each query the index of its best valid response, or None."""
  best = []
  for row, row_valid in zip(rewards, valid, strict=True):
    indices = [k for k in range(len(row)) if row_valid[k]]
    best.append(min(indices, key=lambda k: (-row[k], k)) if indices else None)
  return best


def rjs_loss(logprobs, lengths, rewards, valid, over_tokens):
  chosen = [(b, k) for b, k in enumerate(best_indices(rewards, valid)) if k is not None]
  items = sum(lengths[b][k] for b, k in chosen) if over_tokens == "mean" else len(chosen)
  return {"loss": -sum(logprobs[b][k] for b, k in chosen) / items}


def rrhf_loss(logprobs, lengths, rewards, valid, ranking_coefficient, sft_coefficient, over_tokens):
  rank, sft, queries = 0.0, 0.0, 0
  for b, best in enumerate(best_indices(rewards, valid)):
    if best is None:
      continue
    queries += 1
    sft -= logprobs[b][best] / (lengths[b][best] if over_tokens == "mean" else 1)
    for i in range(len(rewards[b])):
      for j in range(len(rewards[b])):
        if valid[b][i] and valid[b][j] and rewards[b][i] < rewards[b][j]:
          rank += max(0.0, logprobs[b][i] / lengths[b][i] - logprobs[b][j] / lengths[b][j])
  rank, sft = rank / queries, sft / queries
  loss = ranking_coefficient * rank + sft_coefficient * sft
  return {"loss": loss, "rank_loss": rank, "sft_loss": sft}


def dpo_loss(policy_logprobs, reference_logprobs, rewards, valid, beta, pairs):
  losses, margins = [], []
  for b, w, l in preferred_pairs(rewards, valid, pairs):  # noqa: E741
    ratio_w = policy_logprobs[b][w] - reference_logprobs[b][w]
    ratio_l = policy_logprobs[b][l] - reference_logprobs[b][l]
    margins.append(beta * (ratio_w - ratio_l))
    losses.append(softplus(-margins[-1]))
  return {
    "loss": sum(losses) / len(losses),
    "accuracy": sum(margin > 0 for margin in margins) / len(margins),
    "margin": sum(margins) / len(margins),
  }


def preference_accuracy(rewards, scores):
  credits = []
  for b, i, j in preferred_pairs(scores, not_padding(scores)):
    margin = rewards[b][i] - rewards[b][j]
    credits.append(1.0 if margin > 0 else 0.5 if margin == 0 else 0.0)
  return {"accuracy": sum(credits) / len(credits)}


def calibration_errors(rewards, scores, num_bins):
  bins = [[] for _ in range(num_bins)]
  for b, i, j in preferred_pairs(scores, not_padding(scores)):
    for first, second, label in ((i, j, 1.0), (j, i, 0.0)):
      p = 1.0 / (1.0 + math.exp(rewards[b][second] - rewards[b][first]))
      bins[max(math.ceil(p * num_bins) - 1, 0)].append((p, label))
  filled = [
    (len(members), np.mean([p for p, _ in members]), np.mean([label for _, label in members]))
    for members in bins
    if members
  ]
  total = sum(n for n, _, _ in filled)
  gaps = [abs(accuracy - confidence) for _, confidence, accuracy in filled]
  return {
    "ece": sum(n / total * gap for (n, _, _), gap in zip(filled, gaps, strict=True)),
    "ace": float(np.mean(gaps)),
    "mce": float(max(gaps)),
    "confidence": [float(np.mean([p for p, _ in m])) if m else None for m in bins],
    "accuracy": [float(np.mean([label for _, label in m])) if m else None for m in bins],
    "count": [float(len(m)) for m in bins],
  }


def gradient(function, arrays, name, options, step=1e-5):
  """Returns d loss / d arrays[name] by central differences."""
  values = np.array(arrays[name])
  result = np.zeros_like(values)
  for index in np.ndindex(values.shape):
    sides = []
    for sign in (1, -1):
      moved = values.copy()
      moved[index] += sign * step
      sides.append(function(**{**arrays, name: moved.tolist()}, **options)["loss"])
    result[index] = (sides[0] - sides[1]) / (2 * step)
  return result.tolist()


def case(function, arrays, options, differentiate=()):
  return {
    "objective": function.__name__,
    "arrays": arrays,
    "options": options,
    "outputs": function(**arrays, **options),
    "gradients": {name: gradient(function, arrays, name, options) for name in differentiate},
  }


def draw_inputs(rng):
  """Draws inputs with ties, padding, a query with one response and a query with none."""

  def normal(*shape, scale=1.0):
    return np.round(rng.normal(scale=scale, size=shape), 4)

  scores = rng.integers(0, 3, size=(BATCH, RESPONSES)).astype(float)
  scores[1, 2:] = -1.0
  scores[3] = [2.0, -1.0, -1.0, -1.0]
  scores[4] = -1.0
  lengths = rng.integers(2, 9, size=(BATCH, RESPONSES))
  policy = np.round(-lengths * rng.uniform(0.5, 2.0, size=lengths.shape), 4)
  policy_rewards = normal(BATCH, RESPONSES)
  policy_rewards[2] = [0.5, 1.25, 1.25, 0.5]
  apo_scores = np.tile([1.0, 0.0, 0.0, 0.0, 0.0], (3, 1))
  apo_scores[1, 3:] = -1.0
  arrays = {
    "scores": scores,
    "rewards": normal(BATCH, RESPONSES, scale=2.0),
    "apo_scores": apo_scores,
    "apo_rewards": normal(3, 5, scale=2.0),
    "valid": scores >= 0,
    "lengths": lengths,
    "policy_logprobs": policy,
    "reference_logprobs": policy + normal(BATCH, RESPONSES),
    "policy_rewards": policy_rewards,
  }
  return {name: array.tolist() for name, array in arrays.items()}


def make_cases():
  drawn = draw_inputs(np.random.default_rng(0))
  judged = {"rewards": drawn["rewards"], "scores": drawn["scores"]}
  apo = {
    "preference_rewards": drawn["rewards"],
    "apo_rewards": drawn["apo_rewards"],
    "preference_scores": drawn["scores"],
    "apo_scores": drawn["apo_scores"],
  }
  ranked = {"rewards": drawn["policy_rewards"], "valid": drawn["valid"]}
  sampled = {"logprobs": drawn["policy_logprobs"], **ranked}
  ratios = {name: drawn[name] for name in ("policy_logprobs", "reference_logprobs")}

  cases = [case(ranking_loss, judged, {"kind": kind}, ["rewards"]) for kind in KINDS]
  for kind in KINDS:
    for reduction in ("mean", "reference"):
      options = {
        "num_samples": 4,
        "apo_coefficient": 0.1,
        "preference_coefficient": 0.7,
        "kind": kind,
        "reduction": reduction,
      }
      cases.append(case(apo_reward_loss, apo, options, ["preference_rewards", "apo_rewards"]))
  sampled["lengths"] = drawn["lengths"]
  for over_tokens in ("mean", "sum"):
    options = {"over_tokens": over_tokens}
    cases.append(case(rjs_loss, sampled, options, ["logprobs"]))
    weights = {"ranking_coefficient": 2.5, "sft_coefficient": 0.3}
    cases.append(case(rrhf_loss, sampled, {**weights, **options}, ["logprobs"]))
  for pairs in ("best_worst", "best_rest", "all"):
    options = {"beta": 0.2, "pairs": pairs}
    cases.append(case(dpo_loss, {**ratios, **ranked}, options, list(ratios)))
  cases.append(case(preference_accuracy, judged, {}))
  cases.extend(case(calibration_errors, judged, {"num_bins": bins}) for bins in (4, 10))
  return cases


if __name__ == "__main__":
  path = pathlib.Path(__file__).with_name("objectives.json")
  # A line a case, so that a change of one shows as one.
  path.write_text("[\n" + ",\n".join(map(json.dumps, make_cases())) + "\n]\n")
