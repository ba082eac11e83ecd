"""Measures of texts that need no model."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Float
from numpy import ndarray

from apo_jax.objectives import preference_accuracy


def distinct_2(texts: Sequence[str]) -> float:
  """Distinct word pairs over all word pairs of the texts together (arXiv 1510.03055); 0 if none.

  It falls where a policy says the same to everything.
  """
  pairs = [pair for text in texts for pair in itertools.pairwise(text.split())]
  return len(set(pairs)) / len(pairs) if pairs else 0.0


def longer_wins_accuracy(lengths: Float[ndarray, "B R"], scores: Float[ndarray, "B R"]) -> float:
  """How often the longer response is the preferred one; equal lengths count half.

  The baseline beside every accuracy of a reward model, which could win on length alone. Pairs of
  equal score do not count; nan where there is no pair.

  Args:
    lengths: of responses, in characters.
    scores: the higher is preferred; below 0 marks padding.
  """
  as_floats = (jnp.asarray(values, jnp.float32) for values in (lengths, scores))
  return float(preference_accuracy(*as_floats))
