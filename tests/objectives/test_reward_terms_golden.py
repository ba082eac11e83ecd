"""GRM and MORE against numbers of their authors' code (tests/golden/make_reward_terms.py)."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.models.vocabulary import logprobs_of
from apo_jax.objectives import APO, GRM, MinNorm, ScoredRewards, head_gradients
from apo_jax.objectives.subsets import subset_sums
from apo_jax.reward_step import reward_loss_parts

CASES = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "reward_terms.json").read_text())


@pytest.mark.parametrize("case", CASES["grm"], ids=lambda case: f"{case['kind']}-{case['beta']}")
def test_grm(case):
  """(1 - a) L_rank + a L_reg, in value and gradient, from rewards and logits."""
  labels = jnp.asarray(case["labels"])[:, 1:]
  term = GRM(coefficient=case["weight_ratio"], kind=case["kind"], beta=case["beta"])
  apo = APO(preference_coefficient=1 - term.coefficient)

  def loss(rewards, logits):
    found = logprobs_of(logits[:, :-1], jnp.maximum(labels, 0), labels >= 0)
    logprobs = jnp.sum(found, axis=1).reshape(-1, 2)
    scores = jnp.tile(jnp.array([1.0, 0.0]), (len(logprobs), 1))
    scored = ScoredRewards(rewards.reshape(-1, 2), scores, preference_logprobs=logprobs)
    sums = apo(scored)["preference"]
    value, _ = apo.combine({"preference": sums.total}, {"preference": sums.count}, num_samples=1)
    return value + term.coefficient * term(scored).mean

  arrays = jnp.asarray(case["rewards"]), jnp.asarray(case["logits"])
  value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(*arrays)
  np.testing.assert_allclose(value, case["loss"], rtol=1e-5)
  np.testing.assert_allclose(gradients[0], case["rewards_gradient"], atol=1e-6)
  np.testing.assert_allclose(gradients[1], case["logits_gradient"], atol=1e-6)


@pytest.mark.parametrize("case", CASES["more"])
def test_more(case):
  """Two tasks of as many pairs: the first as preferences, the second as golden responses."""
  head, apo = jnp.asarray(case["head"]), APO()
  weighting = MinNorm(case["normalisation"])
  scores = jnp.split(jnp.asarray(case["scores"]), 2)

  def loss(embeddings):
    first, second = jnp.split(embeddings, 2)
    scored = ScoredRewards(first @ head, scores[0], second @ head, scores[1])
    sums = apo(scored)
    totals, counts = ({name: one[part] for name, one in sums.items()} for part in (0, 1))
    fixed = jax.lax.stop_gradient(
      scored._replace(preference_embeddings=first, golden_embeddings=second)
    )
    gradients = {name: one / counts[name] for name, one in head_gradients(apo, fixed).items()}
    means = {name: totals[name] / counts[name] for name in gradients}
    weights = weighting.weights(gradients, means, counts)
    return sum(weights[name] * totals[name] / counts[name] for name in weights), weights

  made = jax.jit(jax.value_and_grad(loss, has_aux=True))(jnp.asarray(case["embeddings"]))
  (value, weights), gradient = made
  np.testing.assert_allclose([weights["preference"], weights["golden"]], case["weights"], atol=5e-5)
  np.testing.assert_allclose(value, case["loss"], rtol=1e-4)
  np.testing.assert_allclose(gradient, case["embeddings_gradient"], atol=1e-4)


@pytest.mark.parametrize("case", CASES["more_of_subsets"])
def test_more_of_subsets(case):
  """Three and four tasks: the last as golden responses, the others as subsets of preferences."""
  head, weighting = jnp.asarray(case["head"]), MinNorm(case["normalisation"], least=0.0)
  count = len(case["weights"]) - 1
  subsets = tuple("abc"[:count])
  scores, pairs = jnp.asarray(case["scores"]), len(case["scores"]) // (count + 1)
  cut = count * pairs

  def scored_of(embeddings):
    rewards = embeddings @ head
    return ScoredRewards(
      rewards[:cut],
      scores[:cut],
      rewards[cut:],
      scores[cut:],
      preference_embeddings=embeddings[:cut],
      golden_embeddings=embeddings[cut:],
      preference_subsets=jnp.repeat(jnp.arange(count), pairs),
    )

  parts = reward_loss_parts(APO(), num_samples=1, weighting=weighting, subsets=subsets)

  def loss(embeddings):
    scored = scored_of(embeddings)
    gathered = jax.lax.stop_gradient(gathered_of(scored, subsets))
    sums = APO()(scored) | subset_sums(APO(), scored, subsets)
    totals, counts = ({name: one[part] for name, one in sums.items()} for part in (0, 1))
    return parts.combine(totals, counts, gathered)

  made = jax.jit(jax.value_and_grad(loss, has_aux=True))(jnp.asarray(case["embeddings"]))
  (value, metrics), gradient = made
  names = [*(f"preference_{one}" for one in subsets), "golden"]
  found = [metrics[f"{name}_weight"] for name in names]
  # Theirs are of Frank and Wolfe's method, which nears an edge of the simplex slowly.
  np.testing.assert_allclose(found, case["weights"], atol=5e-3)
  np.testing.assert_allclose(value, case["loss"], rtol=1e-2)
  np.testing.assert_allclose(gradient, case["embeddings_gradient"], atol=1e-2)


def gathered_of(scored, subsets):
  """What `reward_step` gathers of a batch."""
  gradients = head_gradients(APO(), scored, subsets)
  sums = APO()(scored) | subset_sums(APO(), scored, subsets)
  return gradients, {name: sums[name].total for name in gradients}


def test_the_cases_are_inside_and_outside_of_the_simplex():
  weights = [case["weights"][0] for case in CASES["more"]]
  assert min(weights) == pytest.approx(0.001) and max(weights) == pytest.approx(0.999)
  assert any(0.1 < one < 0.45 or 0.55 < one < 0.9 for one in weights)
  halves = [case["weights"][0] for case in CASES["more"] if case["normalisation"] == "l2"]
  assert halves == pytest.approx([0.5] * 3, abs=1e-4)  # why configs refuse it of two terms
  assert dataclasses.asdict(GRM()) == {
    "coefficient": 0.01,
    "kind": "sft",
    "data": "preferences",
    "beta": 0.1,
  }
