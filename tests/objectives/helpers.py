"""Random batches, and every per-batch loss under one signature, for tests of what all share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from apo_jax import objectives


def random_batch(seed=0, batch=6, responses=4):
  """Returns float32 arrays with padding, a query with one valid response and one with none."""
  rng = np.random.default_rng(seed)
  valid = np.ones((batch, responses), bool)
  valid[1, -1] = False
  valid[2, 1:] = False
  valid[3] = False
  return {
    "values": jnp.asarray(rng.normal(size=(batch, responses)), jnp.float32),
    "reference": jnp.asarray(rng.normal(size=(batch, responses)), jnp.float32),
    "rewards": jnp.asarray(rng.uniform(0, 1, size=(batch, responses)), jnp.float32),
    "lengths": jnp.asarray(rng.integers(1, 9, size=(batch, responses))),
    "valid": jnp.asarray(valid),
  }


def scores_of(batch):
  """Returns the batch's rewards, all in [0, 1], as scores with -1 at padding."""
  return jnp.where(batch["valid"], batch["rewards"], -1.0)


def responses_of(batch):
  """Returns the batch as policy losses read it, its "values" as log-probabilities."""
  return objectives.ScoredResponses(
    batch["values"], batch["reference"], batch["lengths"], batch["rewards"], batch["valid"]
  )


def _ranking(kind):
  return lambda batch: objectives.ranking_loss(batch["values"], scores_of(batch), kind=kind)


def _policy(loss):
  return lambda batch: loss(responses_of(batch))


POLICY_LOSSES = {
  "likelihood": objectives.MaximumLikelihood(),
  "rjs": objectives.RejectionSampling(),
  "rjs_sum": objectives.RejectionSampling("sum"),
  "rrhf": objectives.RRHF(2.0, sft_coefficient=0.5),
  "dpo_best_worst": objectives.DPO(beta=0.5, pairs="best_worst"),
  "dpo_best_rest": objectives.DPO(beta=0.5, pairs="best_rest"),
  "dpo_all": objectives.DPO(beta=0.5, pairs="all"),
}

# name: the sums of a batch
LOSSES = {
  "ranking": _ranking("ranking"),
  "difference": _ranking("difference"),
  **{name: _policy(loss) for name, loss in POLICY_LOSSES.items()},
}


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(loss, batch, count=None):
  """Returns the mean, or the total over `count`, and its gradient for the batch's "values"."""

  def of_values(values):
    sums = loss({**batch, "values": values})
    return sums.mean if count is None else sums.total / count

  return jax.value_and_grad(of_values)(batch["values"])
