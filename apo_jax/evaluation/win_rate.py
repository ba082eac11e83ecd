"""How often one set of responses is judged better than another."""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray


def win_rates(
  rewards: Float[ndarray, "Q S"],
  others: Float[ndarray, "Q O"],
  equal: Bool[ndarray, "Q S O"],
) -> Float[ndarray, " Q"]:
  """The share of each query's pairs (response, opponent's response) that the response wins.

  A win counts 1, a tie 1/2. Equal responses tie whatever their rewards, which differ by rounding
  alone, and so do equal rewards. Giving every response twice, or in another order, changes nothing.

  Args:
    rewards: testing rewards of the responses.
    others: those of the opponent's responses to the same queries.
    equal: which of both are one response.
  """
  sign = np.sign(rewards[:, :, None] - others[:, None, :])
  return np.mean((1 + np.where(equal, 0.0, sign)) / 2, axis=(1, 2))
