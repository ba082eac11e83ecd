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


def _ranking(kind):
  def loss(batch, normalizer=None):
    scores = scores_of(batch)
    return objectives.ranking_loss(batch["values"], scores, kind=kind, normalizer=normalizer)

  return loss


def _rjs(batch, normalizer=None):
  return objectives.rjs_loss(
    batch["values"], batch["rewards"], batch["valid"], normalizer=normalizer
  )


def _rrhf(batch, normalizer=None):
  return objectives.rrhf_loss(
    batch["values"],
    batch["lengths"],
    batch["rewards"],
    batch["valid"],
    sft_coefficient=0.5,
    normalizer=normalizer,
  )[0]


def _dpo(pairs):
  def loss(batch, normalizer=None):
    return objectives.dpo_loss(
      batch["values"],
      batch["reference"],
      batch["rewards"],
      batch["valid"],
      beta=0.5,
      pairs=pairs,
      normalizer=normalizer,
    )[0]

  return loss


def _pairs(selection):
  def count(batch):
    pairs = objectives.pairs_from_scores(batch["rewards"], batch["valid"], selection)
    return jnp.sum(pairs, dtype=jnp.float32)

  return count


def _queries(batch):
  return objectives.count_queries(batch["valid"])


# name: (loss(batch, normalizer=None), the default normalizer of a batch)
LOSSES = {
  "ranking": (_ranking("ranking"), lambda batch: objectives.count_pairs(scores_of(batch))),
  "difference": (_ranking("difference"), lambda batch: objectives.count_pairs(scores_of(batch))),
  "rjs": (_rjs, _queries),
  "rrhf": (_rrhf, _queries),
  "dpo_best_worst": (_dpo("best_worst"), _pairs("best_worst")),
  "dpo_best_rest": (_dpo("best_rest"), _pairs("best_rest")),
  "dpo_all": (_dpo("all"), _pairs("all")),
}


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(loss, batch, normalizer=None):
  """Returns the loss and its gradient with respect to the batch's "values"."""

  def of_values(values):
    return loss({**batch, "values": values}, normalizer)

  return jax.value_and_grad(of_values)(batch["values"])
