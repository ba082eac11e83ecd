"""Embeddings in units of what a reward model was trained on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import cholesky, solve_triangular


class Whitening(NamedTuple):
  """The lower triangular L with M = L L^T.

  Attributes:
    factor: Float64[D, D].
  """

  factor: Float[np.ndarray, "D D"]

  def __call__(self, embeddings: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Returns L^-1 e of each embedding, float32: its length is the uncertainty sqrt(e^T M^-1 e)."""
    found = solve_triangular(self.factor, np.asarray(embeddings, np.float64).T, lower=True)
    return found.T.astype(np.float32)


def whitening(second_moment: Float[np.ndarray, "D D"], ridge: float) -> Whitening:
  """Returns that of M = second_moment + ridge * (mean of its eigenvalues) * I.

  Args:
    second_moment: float64, the sum of e e^T.
    ridge: as a share, so that M's condition number is at most D / ridge + 1, whatever e's scale.
  """
  size = len(second_moment)
  scale = np.trace(second_moment) / size
  added = ridge * scale if scale > 0 else 1.0
  return Whitening(cholesky(second_moment + added * np.eye(size), lower=True))
