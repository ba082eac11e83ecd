"""Measures of texts that need no model."""

import itertools
from collections.abc import Sequence

from apo_jax.data.records import Preference


def distinct_2(texts: Sequence[str]) -> float:
  """Distinct word pairs over all word pairs of the texts together (arXiv 1510.03055); 0 if none.

  It falls where a policy says the same to everything.
  """
  pairs = [pair for text in texts for pair in itertools.pairwise(text.split())]
  return len(set(pairs)) / len(pairs) if pairs else 0.0


def longer_wins_accuracy(preferences: Sequence[Preference]) -> float:
  """How often the response of more characters is the preferred one; equal lengths count half.

  The baseline beside every accuracy of a reward model, which could win on length alone. Pairs of
  equal score do not count; nan where there is no pair.
  """
  credit, count = 0.0, 0
  for preference in preferences:
    scored = list(zip(preference.responses, preference.scores, strict=True))
    for better, better_score in scored:
      for worse, worse_score in scored:
        if better_score > worse_score:
          count += 1
          difference = len(better) - len(worse)
          credit += 1.0 if difference > 0 else 0.5 if difference == 0 else 0.0
  return credit / count if count else float("nan")
