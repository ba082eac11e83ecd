"""A reward model on preferences: accuracy, calibration, and what length has to do with it."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from apo_jax.data.records import Preference
from apo_jax.evaluate.data import Preferences
from apo_jax.evaluate.section import Section
from apo_jax.evaluation.accuracy import accuracy, accuracy_by_length
from apo_jax.evaluation.calibration import calibration
from apo_jax.evaluation.uncertainty import Measured
from apo_jax.rows.rows import NO_SCORE

_BINS = 10


def reward_section(
  key: str, name: str, data: Preferences, rewards: Sequence[Float[ndarray, " _"]]
) -> Section:
  """What the rewards of preferences' responses say of the reward model that gave them.

  Args:
    key: the section's.
    name: of the reward model.
    data: the preferences.
    rewards: of each one's responses; nan for a preference that fits no row of the model.
  """
  kept = [index for index, one in enumerate(rewards) if np.all(np.isfinite(one))]
  records, found = [data.records[index] for index in kept], [rewards[index] for index in kept]
  scores = padded([one.scores for one in records], NO_SCORE)
  lengths, values = text_lengths(records), padded(found, 0.0)
  errors, bins = calibration(values, scores, num_bins=_BINS)
  estimates = {
    "accuracy": accuracy(values, scores),
    **errors,
    "longer_wins_accuracy": accuracy(lengths, scores),
    **accuracy_by_length(values, lengths, scores),
  }
  left_out = with_left_out(data.left_out, "too long for the model", len(rewards) - len(kept))
  items = [
    {**vars(record), "rewards": reward} for record, reward in zip(records, found, strict=True)
  ]
  return Section(
    key=key,
    title=f"{name}, on {len(records):,} preferences of {data.name}",
    measured=Measured([one.query_id for one in records], estimates),
    plain={"model": name, "calibration": bins, "left_out": left_out},
    notes=left_out_note(left_out),
    items=items,
  )


def text_lengths(records: Sequence[Preference]) -> Float[ndarray, "B R"]:
  """Characters of every response."""
  return padded([[float(len(text.strip())) for text in one.responses] for one in records], 0.0)


def with_left_out(left_out: Mapping[str, int], reason: str, number: int) -> dict[str, int]:
  """What is left out for one reason more; reasons of no item are dropped."""
  return {name: count for name, count in {**left_out, reason: number}.items() if count}


def left_out_note(left_out: Mapping[str, int]) -> list[str]:
  """How many items are left out and why, as a line, if any are."""
  listed = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
  return [f"Left out: {listed}."] if listed else []


def padded(
  rows: Sequence[Sequence[float] | Float[ndarray, " _"]], padding: float
) -> Float[ndarray, "B R"]:
  """The rows as one array as wide as the longest."""
  array = np.full((len(rows), max(map(len, rows), default=1)), padding)
  for row, values in zip(array, rows, strict=True):
    row[: len(values)] = values
  return array
