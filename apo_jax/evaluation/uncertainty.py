"""How sure a number is: standard errors over queries, and differences over the same queries.

Every number is made sure of by one means, the delete-one jackknife. A number theta of n queries has
n pseudo-values

    p_q = n theta - (n - 1) theta_without_q

(Tukey, Ann. Math. Stat. 29, 1958, after Quenouille, Biometrika 43, 1956). They are treated as n
independent draws whose mean is the number: its standard error is std(p, ddof=1) / sqrt(n) (Efron &
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11). The pseudo-values of a mean are the
values it is the mean of. Two numbers of the same queries are compared by the differences of their
pseudo-values, in which what is hard for both cancels.

A query is left out with all that belongs to it, so its samples, or the pairs of its responses, need
not be independent of each other. What is not defined is nan, and so is its error.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


class Estimate(NamedTuple):
  """A number of n queries.

  Attributes:
    value: nan where it is not defined.
    pseudo_values: one a query.
  """

  value: float
  pseudo_values: Float[ndarray, " n"]

  @property
  def standard_error(self) -> float:
    """In the number's unit; nan with fewer than two queries."""
    return standard_error(self.pseudo_values)


class Difference(NamedTuple):
  """What one number has more than another, and the standard error of that."""

  difference: float
  standard_error: float


@dataclasses.dataclass(frozen=True)
class Measured:
  """Numbers of the same queries.

  Attributes:
    ids: of the queries; one that comes twice is two queries, told apart by their order.
    estimates: by name.
  """

  ids: Sequence[str]
  estimates: Mapping[str, Estimate]

  def minus(self, other: "Measured") -> dict[str, Difference]:
    """What each number has more than the other's of its name, over the queries that both have."""
    places = common_places(self.ids, other.ids)
    undefined = Estimate(np.nan, np.full(len(other.ids), np.nan))
    return {
      name: paired_difference(ours, other.estimates.get(name, undefined), *places)
      for name, ours in self.estimates.items()
    }


def standard_error(values: Float[ndarray, " n"]) -> float:
  """The standard error of the mean of independent values; nan of fewer than two."""
  if len(values) < 2:
    return float("nan")
  return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def jackknife(value: float, without: Float[ndarray, " n"]) -> Estimate:
  """A number of n queries, from itself and what it is without each of them."""
  return Estimate(value, len(without) * value - (len(without) - 1) * without)


def mean(values: Float[ndarray, " n"]) -> Estimate:
  """The mean of one value a query; nan without any."""
  return Estimate(float(np.mean(values)) if len(values) else float("nan"), values)


def ratio(totals: Float[ndarray, " n"], counts: Float[ndarray, " n"]) -> Estimate:
  """The mean over items that belong to queries, from each query's total and count of them.

  A query may have any number of items, also none. nan where there is no item at all.
  """
  total, count = np.sum(totals), np.sum(counts)
  with np.errstate(invalid="ignore", divide="ignore"):
    return jackknife(float(np.divide(total, count)), (total - totals) / (count - counts))


def common_places(ids: Sequence[str], others: Sequence[str]) -> tuple[Int[ndarray, " m"], ...]:
  """Where the queries that both have stand in the one and in the other, in the first's order."""
  there = {query: place for place, query in enumerate(_told_apart(others))}
  places = [(here, there[one]) for here, one in enumerate(_told_apart(ids)) if one in there]
  first, second = np.array(places, int).reshape(-1, 2).T
  return first, second


def paired_difference(
  ours: Estimate,
  theirs: Estimate,
  our_places: Int[ndarray, " m"],
  their_places: Int[ndarray, " m"],
) -> Difference:
  """What `ours` has more than `theirs`, over the same m queries, which stand at these places.

  Pseudo-values are moved so that their mean is the number itself, which that of a ratio is not
  quite: over all queries of both, the difference is that of the two numbers.
  """
  differences = _centred(ours)[our_places] - _centred(theirs)[their_places]
  value = float(np.mean(differences)) if len(differences) else float("nan")
  return Difference(value, standard_error(differences))


def _centred(estimate: Estimate) -> Float[ndarray, " n"]:
  values = estimate.pseudo_values
  return values + (estimate.value - np.mean(values)) if len(values) else values


def _told_apart(ids: Sequence[str]) -> list[tuple[str, int]]:
  """Each id with how often it has come before."""
  seen: collections.Counter[str] = collections.Counter()
  told = []
  for one in ids:
    told.append((one, seen[one]))
    seen[one] += 1
  return told
