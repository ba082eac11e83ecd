"""Sequential PO in numbers by hand, and where it is DPO."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.objectives import DPO, ScoredResponses, SequentialPO

RESPONSES = ScoredResponses(
  logprobs=jnp.array([[-9.0, -21.0, -30.0], [-4.0, -4.0, -4.0]]),
  reference_logprobs=jnp.array([[-10.0, -20.0, -30.0], [-5.0, -3.0, -4.0]]),
  lengths=jnp.ones((2, 3), jnp.int32),
  rewards=jnp.array([[2.0, 0.0, 1.0], [1.0, 1.0, 1.0]]),
  valid=jnp.ones((2, 3), bool),
  earlier_logprobs=jnp.array([[-13.0, -19.0, 0.0], [0.0, 0.0, 0.0]]),
)


def test_closed_form():
  """Learnt now: 1 and -1, so 2; learnt before: 3 and -1, so 4. The second query has no pair."""
  loss = SequentialPO(beta=0.5, earlier_weight=0.25, earlier_beta=0.2)
  sums = loss(RESPONSES)
  margin = 0.5 * 2 - 0.25 * 0.2 * 4
  assert sums.count == 1
  assert sums.mean == pytest.approx(math.log1p(math.exp(-margin)), rel=1e-6)
  assert sums.metrics["margin"] == pytest.approx(1.0)
  assert sums.metrics["earlier_margin"] == pytest.approx(0.8)
  assert sums.metrics["accuracy"] == 1


@pytest.mark.parametrize(
  ("weight", "earlier"), [(0.0, RESPONSES.earlier_logprobs), (0.5, RESPONSES.reference_logprobs)]
)
def test_without_anything_learnt_before_it_is_dpo(weight, earlier):
  given = RESPONSES._replace(earlier_logprobs=earlier)
  ours = SequentialPO(beta=0.3, earlier_weight=weight)(given)
  assert ours.mean == pytest.approx(float(DPO(beta=0.3)(given).mean), rel=1e-6)


def test_it_reads_what_it_compares():
  found = SequentialPO().reads(RESPONSES.rewards, RESPONSES.valid)
  np.testing.assert_array_equal(found, [[True, True, False], [True, False, False]])
