"""GRM's regulariser by hand: which responses it reads, and what it makes of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.objectives import GRM, ScoredRewards

# The better of two, a tie, three of which two are best, padding.
SCORES = jnp.array([[0.0, 1.0, -1.0], [1.0, 1.0, -1.0], [2.0, 0.0, 2.0], [-1.0, -1.0, -1.0]])
LOGPROBS = jnp.array([[-3.0, -5.0, 9.0], [-1.0, -2.0, 9.0], [-4.0, -6.0, -8.0], [9.0, 9.0, 9.0]])
# One golden response beside two samples, one whose samples are all twins.
GOLDEN_SCORES = jnp.array([[1.0, 0.0, 0.0], [1.0, -1.0, -1.0]])
GOLDEN_LOGPROBS = jnp.array([[-10.0, -7.0, -9.0], [-20.0, 9.0, 9.0]])
TWINS = jnp.array([0.0, 2.0])


def scored(logprobs=LOGPROBS, golden_logprobs=GOLDEN_LOGPROBS) -> ScoredRewards:
  rewards, golden = jnp.zeros_like(SCORES), jnp.zeros_like(GOLDEN_SCORES)
  given = {"preference_logprobs": logprobs, "golden_logprobs": golden_logprobs}
  return ScoredRewards(rewards, SCORES, golden, GOLDEN_SCORES, TWINS, **given)


def softplus(x: float) -> float:
  return float(np.log1p(np.exp(x)))


@pytest.mark.parametrize(
  ("data", "expected"),
  [
    ("preferences", [5.0, 4.0, 8.0]),
    ("golden", [10.0, 20.0]),
    ("both", [5.0, 4.0, 8.0, 10.0, 20.0]),
  ],
)
def test_chosen_responses_are_imitated(data, expected):
  plain = GRM(kind="sft_no_sigmoid", data=data)(scored())
  assert plain.count == len(expected)
  np.testing.assert_allclose(plain.mean, np.mean(expected))
  np.testing.assert_allclose(plain.metrics["logprob"] / plain.count, -np.mean(expected))
  squashed = GRM(kind="sft", data=data, beta=0.5)(scored())
  squashed_by_hand = np.mean([softplus(one / 2) for one in expected])
  np.testing.assert_allclose(squashed.mean, squashed_by_hand, rtol=1e-6)


def test_pairs_by_hand():
  sums = GRM(kind="dpo", beta=0.5)(scored())
  margins = [-2.0, 2.0, -2.0]  # -5 less -3; -4 and -8 less -6
  assert sums.count == 3
  np.testing.assert_allclose(sums.mean, np.mean([softplus(-one / 2) for one in margins]))
  np.testing.assert_allclose(sums.metrics["margin"], np.sum(margins))
  golden = GRM(kind="dpo", data="golden", beta=0.5)(scored())
  assert golden.count == 2 + 2  # two samples, and two that are the golden response
  np.testing.assert_allclose(golden.total, softplus(1.5) + softplus(0.5), rtol=1e-6)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_what_it_says_it_reads_is_what_moves_it(kind):
  terms = [GRM(kind=kind, data=data) for data in ("preferences", "golden", "both")]

  @jax.jit
  def gradients(logprobs, golden_logprobs):
    def total(term, *both):
      return term(scored(*both)).total

    return [
      jax.grad(functools.partial(total, term), (0, 1))(logprobs, golden_logprobs) for term in terms
    ]

  for term, found in zip(terms, gradients(LOGPROBS, GOLDEN_LOGPROBS), strict=True):
    parts = (("preferences", SCORES), ("golden", GOLDEN_SCORES))
    for (name, scores), gradient in zip(parts, map(np.asarray, found), strict=True):
      read = term.logprobs_read(name, scores)
      read = np.zeros(scores.shape, bool) if read is None else np.asarray(read)
      assert np.isfinite(gradient).all() and not gradient[~read].any()
      if kind == "sft":  # ties are read for pairs that they do not form
        np.testing.assert_array_equal(gradient != 0, read)


def test_without_golden_responses_there_is_nothing_of_them():
  alone = ScoredRewards(jnp.zeros_like(SCORES), SCORES, preference_logprobs=LOGPROBS)
  assert GRM(data="both")(alone).mean == GRM()(scored()).mean
  nothing = GRM(data="golden")(alone._replace(preference_logprobs=None))
  assert (nothing.total, nothing.count) == (0, 0)
