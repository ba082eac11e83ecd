"""Reward models of every round on pairs of every round, and on human preferences.

Pairs of round j are its golden responses against the samples that its policy gave to the test
queries (`rounds/NN/test_samples.jsonl`), which no reward model was trained on. Along a row is
whether a reward model of round i still knows the failures of other rounds' policies, and in the
last column whether it has forgotten the human preferences.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float
from numpy import ndarray

from apo_jax.config.fields import ConfigError
from apo_jax.evaluate.data import Preferences
from apo_jax.evaluate.models import OpenedRun, Source
from apo_jax.evaluate.preferences import padded
from apo_jax.evaluate.reading import Answer, Item, rewards_of
from apo_jax.evaluate.section import Section
from apo_jax.evaluation.accuracy import accuracy
from apo_jax.evaluation.uncertainty import Estimate, Measured, mean
from apo_jax.logs.files import read_jsonl
from apo_jax.logs.run_directory import TEST_SAMPLES
from apo_jax.rows.rows import NO_SCORE, Response
from apo_jax.run.opening import last_finished

PREFERENCES = "preferences"


def reward_models(run: OpenedRun, last: int | None) -> dict[str, Source]:
  """Every reward model of a run that is kept, to a round: base, those of rounds, the testing one.

  Raises:
    ConfigError: none but the testing reward model is kept.
  """
  found: dict[str, Source] = {}
  for round in range(_last(run, last) + 1):
    try:
      _, player = run.find("reward", round)
    except ConfigError:
      continue  # older checkpoints may be gone
    if player.round == round:
      name = "base" if round == 0 else f"round {round}"
      found[name] = run.source_of(player, f"{run.name}, reward of {name}")
  if not found:
    raise ConfigError(f"--matrix: no reward model of {run.name} is kept (config.checkpoints.keep).")
  return found | {"testing": run.source("testing_reward", None)}


def pairs_of_rounds(
  run: OpenedRun, last: int | None, number: int | None
) -> dict[str, tuple[Item, ...]]:
  """By round, each test query's golden response first and then the samples that differ from it.

  Raises:
    ConfigError: the run has no samples of a round.
  """
  found = {}
  for round in range(_last(run, last) + 1):
    path = run.directory.round(round) / TEST_SAMPLES
    if not path.exists():
      raise ConfigError(f"--matrix: {path} is not there, the test samples of a finished round.")
    rows = read_jsonl(path)[:number]
    found[f"pairs of round {round}"] = tuple(_item(run, row) for row in rows if row["golden"])
  return found


def matrix_sections(
  models: dict[str, Source],
  mesh: Mesh,
  pairs: dict[str, tuple[Item, ...]],
  preferences: Preferences | None,
  run: OpenedRun,
  batch_size: int,
) -> list[Section]:
  """Every model's accuracy on every set, ties half: a section a set, the table in the last."""
  sets = dict(pairs)
  if preferences is not None:
    sets[PREFERENCES] = tuple(preferences.items)
  everything = [item for items in sets.values() for item in items]
  found: dict[str, dict[str, Estimate]] = {name: {} for name in sets}
  ids: dict[str, list[str]] = {}
  for name, source in models.items():
    rewards = iter(rewards_of(source, mesh, everything, batch_size))
    for set_name, items in sets.items():
      values = [next(rewards) for _ in items]
      kept = [row for row, one in enumerate(values) if _can_be_judged(one)]
      ids[set_name] = [items[row].query_id for row in kept]  # the same for every model of a run
      values = [values[row] for row in kept]
      if set_name == PREFERENCES and preferences is not None:
        scores = padded([preferences.records[row].scores for row in kept], NO_SCORE)
        found[set_name][name] = accuracy(padded(values, 0.0), scores)
      else:
        found[set_name][name] = _on_pairs(values)
  sections = [
    Section(
      key=f"matrix_{set_name.replace(' ', '_')}",
      title=f"Accuracy of the reward models of {run.name} on {set_name}",
      measured=Measured(ids[set_name], estimates),
    )
    for set_name, estimates in found.items()
  ]
  sections[-1] = dataclasses.replace(sections[-1], notes=["", *_lines(found)])
  return sections


def _can_be_judged(rewards: Float[ndarray, " R"]) -> bool:
  """Whether there are two answers, and the item fits a row."""
  return len(rewards) > 1 and bool(np.all(np.isfinite(rewards)))


def _on_pairs(rewards: Sequence[Float[ndarray, " _"]]) -> Estimate:
  """The share of samples with less reward than the golden response, a mean over queries."""
  return mean(np.array([np.mean(1 + np.sign(one[0] - one[1:])) / 2 for one in rewards]))


def _item(run: OpenedRun, row: dict[str, Any]) -> Item:
  golden = Answer(row["golden"])
  samples = [
    Answer(
      one["text"],
      one["finished"],
      Response(tuple(one["tokens"]), one["finished"], one["drew_end"]),
      run.codec,
    )
    for one in row["samples"]
  ]
  others = tuple(one for one in samples if not one.same_as(golden))
  return Item(row["query_id"], row["query"], (golden, *others))


def _last(run: OpenedRun, last: int | None) -> int:
  finished = last_finished(run.directory)
  if finished < 0:
    raise ConfigError(f"--run is {str(run.directory)!r}, in which no round is finished yet.")
  if last is not None and not 0 <= last <= finished:
    raise ConfigError(f"--round is {last}; the last finished is {finished}.")
  return finished if last is None else last


def _lines(found: dict[str, dict[str, Estimate]]) -> list[str]:
  """A line a reward model, a column a set."""
  models = list(next(iter(found.values())))
  head = f"{'reward model':<14}" + "".join(f"{name:>20}" for name in found)
  rows = []
  for model in models:
    cells = (column[model] for column in found.values())
    shown = "".join(f"{cell.value:>13.3f} ±{cell.standard_error:.3f}" for cell in cells)
    rows.append(f"{model:<14}{shown}")
  return [head, *rows]
