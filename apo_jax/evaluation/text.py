"""Measures of texts that need no model."""

import collections
import itertools
from collections.abc import Sequence

import numpy as np

from apo_jax.evaluation.uncertainty import Estimate, jackknife


def distinct_2(texts: Sequence[Sequence[str]]) -> Estimate:
  """Distinct word pairs over all word pairs of the texts together (arXiv 1510.03055); 0 if none.

  It falls where a policy says the same to everything.

  Args:
    texts: those of each query.
  """
  each = [_word_pairs(of_query) for of_query in texts]
  all_pairs = sum(each, collections.Counter())
  # Without a query, the pairs are gone that it alone has.
  own = np.array([sum(count == all_pairs[pair] for pair, count in one.items()) for one in each])
  totals = np.array([one.total() for one in each])
  distinct, total = len(all_pairs), all_pairs.total()
  without = (distinct - own) / np.maximum(total - totals, 1)
  return jackknife(distinct / max(total, 1), without)


def repetition(text: str) -> float:
  """The share of a text's runs of four words that have stood in it before (seq-rep-4 of arXiv
  1908.04319, over words); 0 where it has fewer than four.
  """
  words = text.split()
  runs = list(zip(words, words[1:], words[2:], words[3:], strict=False))
  return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _word_pairs(texts: Sequence[str]) -> collections.Counter[tuple[str, str]]:
  return collections.Counter(pair for text in texts for pair in itertools.pairwise(text.split()))
