"""A round's numbers as JSON: evaluation.json for people, judgements.json for what is compared."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from apo_jax.evaluation.standard import Numbers
from apo_jax.evaluation.uncertainty import Estimate, Measured, mean

# What stands in evaluation.json or judgements.json beside the numbers.
_PARTS = ("round", "true_utility", "calibration", "standard_errors", "differences", "ids")


def with_further(
  numbers: Numbers, plain: Mapping[str, float], further: Mapping[str, float | Float[ndarray, " Q"]]
) -> tuple[Numbers, dict[str, float]]:
  """The numbers and the plain ones, those without an error, with a further evaluation's.

  Raises:
    ValueError: one has the name of another, or neither one value nor one for each query.
  """
  queries, plain = dict(numbers.queries.estimates), dict(plain)
  for name, value in further.items():
    if name in {*_PARTS, *queries, *numbers.preferences.estimates, *plain}:
      raise ValueError(f"returns {name!r}, which is the name of another number; it must be new")
    if np.ndim(value) == 0:
      plain[name] = float(value)
      continue
    values = np.asarray(value, float)
    if values.shape != (len(numbers.queries.ids),):
      raise ValueError(
        f"returns {name!r} of shape {values.shape}; it must be a number, or one for each of the "
        f"{len(numbers.queries.ids)} queries"
      )
    queries[name] = mean(values)
  return numbers._replace(queries=Measured(numbers.queries.ids, queries)), plain


def evaluation_record(
  number: int,
  numbers: Numbers,
  plain: Mapping[str, float],
  others: Mapping[str, Sequence[Measured]],
) -> dict[str, Any]:
  """The content of evaluation.json; what is not defined is None.

  Args:
    number: the round's.
    numbers: the round's.
    plain: further numbers by name, whose errors are not known.
    others: what the round is compared with, such as "previous": the other's numbers over test
      queries and over test preferences.
  """
  estimates = {**numbers.queries.estimates, **numbers.preferences.estimates}
  values = {"true_utility": None}  # where no utility is known
  values |= {name: _known(estimate.value) for name, estimate in estimates.items()}
  values |= {name: _known(value) for name, value in plain.items()}
  errors = {name: _known(estimate.standard_error) for name, estimate in estimates.items()}
  record = {
    "round": number,
    **values,
    "calibration": numbers.calibration,
    "standard_errors": {name: errors.get(name) for name in values},
  }
  if others:
    record["differences"] = {
      name: {
        key: {
          "difference": _known(difference.difference),
          "standard_error": _known(difference.standard_error),
        }
        for ours, theirs in zip((numbers.queries, numbers.preferences), other, strict=True)
        for key, difference in ours.minus(theirs).items()
      }
      for name, other in others.items()
    }
  return record


def judgements_record(numbers: Numbers) -> dict[str, Any]:
  """The content of judgements.json: the pseudo-values of all numbers that are defined."""
  return {
    "queries": _pseudo_values(numbers.queries),
    "preferences": _pseudo_values(numbers.preferences),
  }


def read_measured(
  evaluation: Mapping[str, Any], judgements: Mapping[str, Any]
) -> tuple[Measured, Measured]:
  """The numbers over test queries and over test preferences, from what both files hold."""
  queries, preferences = (
    Measured(
      ids=judgements[part]["ids"],
      estimates={
        name: Estimate(evaluation[name], np.array(values, float))  # None becomes nan
        for name, values in judgements[part].items()
        if name != "ids"
      },
    )
    for part in ("queries", "preferences")
  )
  return queries, preferences


def _pseudo_values(measured: Measured) -> dict[str, Any]:
  defined = {
    name: estimate.pseudo_values
    for name, estimate in measured.estimates.items()
    if math.isfinite(estimate.value)
  }
  return {"ids": list(measured.ids), **defined}


def _known(value: float) -> float | None:
  return value if math.isfinite(value) else None
