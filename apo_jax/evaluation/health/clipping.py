"""Gradients that are nearly all clipped."""

from collections.abc import Sequence

import numpy as np

from apo_jax.evaluation.health.finding import BRANCH, Finding


def are_clipped(
  norms: Sequence[float], clip_norm: float, threshold: float, training: str
) -> Finding | None:
  """A phase most of whose updates had a gradient longer than what is allowed.

  Args:
    norms: of the phase's gradients, before clipping; none where it made no update.
    clip_norm: the largest norm that is left as it is.
    threshold: the largest healthy share of updates that are clipped.
    training: the field of the phase's optimisation.
  """
  if not norms:
    return None
  share = float(np.mean(np.array(norms) > clip_norm))
  if share <= threshold:
    return None
  sentence = (
    f"{share:.1%} of the logged gradients are longer than {training}.clip_norm, {clip_norm:g}, and "
    f"clipped, more than {threshold:.1%}; their median norm is {np.median(norms):.2g}. How much an "
    "update weighs no longer follows from its data. Try a clip_norm above that median, a larger "
    f"{training}.batch_size, or more {training}.warmup_steps. {BRANCH}"
  )
  return Finding("gradients_clipped", share, threshold, sentence)
