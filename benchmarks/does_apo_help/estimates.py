"""Means over seeds of the results, differences paired by seed, and their tests as one family."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from apo_jax.compare.statistics import Estimate, Test, holm, over_seeds, paired_test
from benchmarks.does_apo_help.parts import CONTRASTS, LOSSES
from benchmarks.does_apo_help.results import Results

TESTED = "true_utility"


class Contrast(NamedTuple):
  """What one arm has more than another, seed by seed.

  Attributes:
    estimate: over the seeds that both have.
    test: None with fewer than three seeds, and where no test is made.
    corrected_p: Holm's, over the family; nan without a test.
  """

  estimate: Estimate
  test: Test | None = None
  corrected_p: float = math.nan


def arm(mode: str, loss: str) -> dict[str, str]:
  """The setting of the grid."""
  return {"reward.mode": mode, "policy.loss": loss}


def mean_of(by_seed: Mapping[int, float]) -> Estimate:
  """The mean over seeds; of one seed without an error."""
  return over_seeds([by_seed[seed] for seed in sorted(by_seed)], [math.nan] * len(by_seed), "")


def minus(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[int, float]:
  """The differences of the seeds that both have."""
  return {seed: ours[seed] - theirs[seed] for seed in sorted(ours) if seed in theirs}


def over_losses(by_loss: Sequence[Mapping[int, float]]) -> dict[int, float]:
  """The mean over losses, of the seeds that all of them have."""
  seeds = sorted(set.intersection(*(set(one) for one in by_loss)))
  return {seed: sum(one[seed] for one in by_loss) / len(by_loss) for seed in seeds}


def differences(results: Results, round: int, number: str) -> dict[tuple[str, str], dict]:
  """Differences by seed, by the contrast's two modes and the loss; "" is the mean over losses."""
  found = {}
  for ours, theirs in CONTRASTS:
    by_loss = [
      minus(
        results.by_seed(arm(ours, loss), round, number),
        results.by_seed(arm(theirs, loss), round, number),
      )
      for loss in LOSSES
    ]
    found |= {((ours, theirs), loss): one for loss, one in zip(LOSSES, by_loss, strict=True)}
    found[(ours, theirs), ""] = over_losses(by_loss)
  return found


def as_family(differences: Sequence[Mapping[int, float]]) -> list[Contrast]:
  """Each difference with its test, corrected for how many tests there are."""
  tests = [paired_test(list(one.values())) for one in differences]
  corrected = iter(holm([test.p for test in tests if test is not None]))
  return [
    Contrast(mean_of(one), test, math.nan if test is None else next(corrected))
    for one, test in zip(differences, tests, strict=True)
  ]
