"""Random batches, and every per-batch loss under one signature, for tests of what all share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from apo_jax import objectives


def random_batch(seed=0, batch=6, responses=4):
  """Returns float32 arrays with padding, a query with one valid response and one with none.

  Values are such as log-probabilities may be, below 0.
  """
  rng = np.random.default_rng(seed)
  valid = np.ones((batch, responses), bool)
  valid[1, -1] = False
  valid[2, 1:] = False
  valid[3] = False
  return {
    "values": jnp.asarray(rng.normal(size=(batch, responses)) - 4, jnp.float32),
    "reference": jnp.asarray(rng.normal(size=(batch, responses)) - 4, jnp.float32),
    "rewards": jnp.asarray(rng.uniform(0, 1, size=(batch, responses)), jnp.float32),
    "lengths": jnp.asarray(rng.integers(1, 9, size=(batch, responses))),
    "valid": jnp.asarray(valid),
    "golden": jnp.asarray(np.arange(responses) == np.zeros((batch, 1))),
    "earlier": jnp.asarray(rng.normal(size=(batch, responses)) - 4, jnp.float32),
    # Of as many features as there are responses, so that they are cut and padded alike.
    "embeddings": jnp.asarray(rng.normal(size=(batch, responses)), jnp.float32),
  }


def scores_of(batch):
  """Returns the batch's rewards, all in [0, 1], as scores with -1 at padding."""
  return jnp.where(batch["valid"], batch["rewards"], -1.0)


def responses_of(batch):
  """Returns the batch as policy losses read it, its "values" as log-probabilities."""
  return objectives.ScoredResponses(
    batch["values"],
    batch["reference"],
    batch["lengths"],
    batch["rewards"],
    batch["valid"],
    golden=batch["golden"],
    earlier_logprobs=batch["earlier"],
    query_embeddings=batch["embeddings"],
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
  "ipo_mean": objectives.IPO(beta=0.5),
  "ipo_sum": objectives.IPO(beta=0.5, over_tokens="sum", pairs="best_rest"),
  "hinge": objectives.Hinge(beta=0.5, pairs="all"),
  "simpo": objectives.SimPO(pairs="all"),
  "orpo": objectives.ORPO(beta=0.5, pairs="best_rest"),
  "kto_query": objectives.KTO(beta=0.5, desirable_weight=1.5),
  "kto_batch": objectives.KTO(beta=0.5, baseline="batch"),
  "kto_zero": objectives.KTO(beta=0.5, baseline="zero"),
  "sppo_soft": objectives.SPPO(beta=0.1),
  "sppo_hard": objectives.SPPO(beta=0.1, labels="hard"),
  "infonca": objectives.InfoNCA(beta=0.5, alpha=0.3),
  "nca": objectives.NCA(beta=0.5, alpha=0.3),
  "dno": objectives.DNO(beta=0.5, label_scale=4.0),
  "dno_prct": objectives.DNOPrct(beta=0.5, least_win_rate=0.52, least_margin=0.05),
  "swepo_abs": objectives.SWEPO(beta=0.5),
  "swepo_signed": objectives.SWEPO(beta=0.5, alpha=0.5, deviation="signed", power=2),
  "ndcg_approx": objectives.ApproxNDCG(beta=0.5, alpha=2.0),
  "ndcg_diffsort": objectives.DiffsortNDCG(beta=0.5),
  "ndcg_neuralsort": objectives.NeuralNDCG(beta=0.5, tau=1.0),
  "offline_clip": objectives.OfflineClip(),
  "offline_clip_normalised": objectives.OfflineClip(normalise=True, kl_coefficient=0.0),
  "spin": objectives.SPIN(beta=0.5),
  "spin_hinge": objectives.SPIN(beta=0.5, kind="hinge"),
  "sequential_po": objectives.SequentialPO(beta=0.5),
  "relative_po": objectives.RelativePO(beta=0.5, weights="times_queries"),
}

# name: the sums of a batch
LOSSES = {
  "ranking": _ranking("ranking"),
  "difference": _ranking("difference"),
  **{name: _policy(loss) for name, loss in POLICY_LOSSES.items()},
}


class Outcome(NamedTuple):
  """What a loss says of a batch: its sums, and the total's gradient for the batch's "values"."""

  total: Array
  gradient: Array
  count: Array
  metrics: dict[str, Array]

  @property
  def mean(self):
    """The loss."""
    return self.total / np.maximum(self.count, 1.0)


@jax.jit
def outcomes(batch):
  """Returns what each loss says of a batch, by name: one program, compiled once for a shape."""
  return {name: _outcome(loss, batch) for name, loss in LOSSES.items()}


@jax.jit
def policy_outcomes(batch):
  """Returns the same of the policy losses alone."""
  return {name: _outcome(LOSSES[name], batch) for name in POLICY_LOSSES}


def _outcome(loss, batch):
  def total(values):
    sums = loss({**batch, "values": values})
    return sums.total, (sums.count, sums.metrics)

  (value, (count, metrics)), gradient = jax.value_and_grad(total, has_aux=True)(batch["values"])
  return Outcome(value, gradient, count, metrics)
