"""Two runs side by side: every number of a round, and their differences query by query."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from apo_jax.config.fields import ConfigError
from apo_jax.evaluation.record import read_measured
from apo_jax.evaluation.uncertainty import Difference, Measured, common_places
from apo_jax.logs.files import read_json
from apo_jax.logs.run_directory import EVALUATION, JUDGEMENTS, RunDirectory


class _Judged(NamedTuple):
  """What a run's files hold of a round.

  Attributes:
    evaluation: the content of evaluation.json.
    queries: numbers over test queries.
    preferences: numbers over test preferences.
  """

  evaluation: Mapping[str, Any]
  queries: Measured
  preferences: Measured


def compare(run_a: Path, run_b: Path, round: int | None = None) -> str:
  """The numbers of two runs after a round, and what the second has more, as lines of text.

  Differences and their standard errors are over the queries that both runs have, told by their ids.

  Args:
    run_a: directory of the one run.
    run_b: of the other.
    round: the round; None takes the last that both have finished.

  Raises:
    ConfigError: a run or the round is not there, or the runs have no test query in common.
    ValueError: a file of a run is not valid JSON; the message names file and line.
  """
  finished = [_finished(run) for run in (run_a, run_b)]
  if round is None:
    both = finished[0] & finished[1]
    if not both:
      raise ConfigError(f"--compare names {run_a} and {run_b}, which have finished no same round.")
    round = max(both)
  one, other = (
    _judged(run, round, rounds) for run, rounds in zip((run_a, run_b), finished, strict=True)
  )
  queries, preferences = (
    len(common_places(getattr(one, part).ids, getattr(other, part).ids)[0])
    for part in ("queries", "preferences")
  )
  if not queries:
    raise ConfigError(
      f"--compare names {run_a} and {run_b}, which have no test query in common; give runs on the "
      "same data."
    )
  differences = other.queries.minus(one.queries) | other.preferences.minus(one.preferences)
  return "\n".join(
    [
      f"A: {run_a}",
      f"B: {run_b}",
      f"after round {round}; B - A is over the {queries} test queries and {preferences} test "
      "preferences that both",
      "have, each with itself. Behind ± stand standard errors.",
      "",
      _line("", "A", "B", "B - A"),
      *(
        _line(
          name,
          _number(one.evaluation, name),
          _number(other.evaluation, name),
          _gain(differences.get(name)),
        )
        for name in one.evaluation["standard_errors"]
        if name in other.evaluation["standard_errors"]
      ),
    ]
  )


def _finished(run: Path) -> set[int]:
  """The rounds that a run has finished."""
  rounds = RunDirectory(run).rounds
  if not rounds.is_dir():
    raise ConfigError(f"--compare names {run}, which is no run's directory; it must hold rounds/.")
  return {
    int(path.parent.name) for path in rounds.glob(f"*/{EVALUATION}") if path.parent.name.isdecimal()
  }


def _judged(run: Path, round: int, finished: set[int]) -> _Judged:
  if round not in finished:
    known = ", ".join(map(str, sorted(finished))) or "none"
    raise ConfigError(f"--round is {round}, which {run} has not finished; it has {known}.")
  place = RunDirectory(run).round(round)
  if not (place / JUDGEMENTS).exists():
    raise ConfigError(
      f"--compare names {run}, whose round {round} has no {JUDGEMENTS}: it was judged by an older "
      "version, and has to be played again."
    )
  evaluation = read_json(place / EVALUATION)
  return _Judged(evaluation, *read_measured(evaluation, read_json(place / JUDGEMENTS)))


def _line(name: str, a: str, b: str, gain: str) -> str:
  return f"{name:<24}{a:>18}{b:>18}{gain:>18}".rstrip()


def _number(evaluation: Mapping[str, Any], name: str) -> str:
  value, error = evaluation[name], evaluation["standard_errors"][name]
  return "-" if value is None else f"{value:.3f}{_error(error)}"


def _gain(difference: Difference | None) -> str:
  if difference is None or math.isnan(difference.difference):
    return "-"
  return f"{difference.difference:+.3f}{_error(difference.standard_error)}"


def _error(error: float | None) -> str:
  return "" if error is None or math.isnan(error) else f" ±{error:.3f}"
