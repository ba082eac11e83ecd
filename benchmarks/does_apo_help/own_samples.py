"""What the round's reward model says of the policy's own samples, against the truth."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from apo_jax.data.records import Query
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.data.tokenised import Tokenised
from apo_jax.evaluation.accuracy import accuracy
from apo_jax.evaluation.calibration import calibration
from apo_jax.phases.responses import learnable, of_samples

_BINS = 10  # as `evaluation.calibration_bins` has them


def read_sampled(rows: Sequence[Mapping[str, Any]]) -> list[SampledQuery]:
  """The scored samples of a file such as policy_samples.jsonl, without their queries' ids."""
  return [
    SampledQuery(
      Tokenised(Query(row["query_id"], row["query"]), (), False, ()),
      tuple(Sample(**{**sample, "tokens": tuple(sample["tokens"])}) for sample in row["samples"]),
    )
    for row in rows
  ]


def own_sample_numbers(sampled: Sequence[SampledQuery], unfinished: str) -> dict[str, float]:
  """Numbers of the samples that the policy learns from, of which rewards and utilities are known.

      own_accuracy     share of pairs of samples to a query, of different true utility, that the
                       reward model orders as utility does; equal rewards count half
      own_ece          expected calibration error of sigma(r_i - r_j) on these pairs, over 10 bins
      mean_utility     of all samples that it may learn from
      chosen_utility   of the one with the highest reward, query by query
      best_utility     of the one with the highest utility
      selection        (chosen - mean) / (best - mean), of the three means over queries: 1 where the
                       reward model chooses as truth does, 0 where it chooses as chance does

  The last four are over queries with a sample that may be learnt from.
  What is not defined is nan.

  Args:
    sampled: queries with equally many samples each.
    unfinished: `policy.unfinished`, which samples without an end may be chosen.
  """
  rewards = of_samples(sampled, "reward").astype(float)
  utilities = of_samples(sampled, "utility").astype(float)
  errors, _ = calibration(rewards, utilities, num_bins=_BINS)
  allowed = learnable(sampled, unfinished)
  some = allowed.any(axis=1)
  shaped = np.where(allowed, of_samples(sampled, "shaped_reward").astype(float), -np.inf)[some]
  truth, allowed = utilities[some], allowed[some]
  counts = np.sum(allowed, axis=1)
  middle = _mean(np.sum(np.where(allowed, truth, 0.0), axis=1) / counts)
  chosen = _mean(np.take_along_axis(truth, np.argmax(shaped, axis=1)[:, None], axis=1))
  best = _mean(np.max(np.where(allowed, truth, -np.inf), axis=1))
  return {
    "own_accuracy": accuracy(rewards, utilities).value,
    "own_ece": errors["ece"].value,
    "mean_utility": middle,
    "chosen_utility": chosen,
    "best_utility": best,
    "selection": (chosen - middle) / (best - middle) if best > middle else math.nan,
  }


def _mean(values: np.ndarray) -> float:
  return float(np.mean(values)) if values.size else math.nan
