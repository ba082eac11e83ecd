"""RewardBench's rows as they are, and its scores (arXiv 2403.13787).

A row has `prompt`, `chosen`, `rejected`, `subset` and `id`. A subset's score is its accuracy, ties
half; a section's is the mean over its rows, except that its mathematics, one subset, weighs as much
as its code, six; the total is the mean over the sections. Counts of rows and the weight of
mathematics are those that the benchmark's own code (`rewardbench` 0.1.4) uses.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from apo_jax.config.fields import ConfigError
from apo_jax.data.answers import query_of, response_of
from apo_jax.data.bad_rows import BadRow
from apo_jax.data.locations import LocationError, read_rows
from apo_jax.data.messages import messages_of
from apo_jax.data.values import field, text_of
from apo_jax.evaluate.preferences import left_out_note
from apo_jax.evaluate.reading import Answer, Item
from apo_jax.evaluate.section import Section
from apo_jax.evaluation.uncertainty import Estimate, Measured, jackknife, ratio

_COLUMNS = ("prompt", "chosen", "rejected", "subset")

# Weights of subsets within the sections: the rows that each has in the benchmark, and of
# mathematics as many as code has.
SECTIONS: Mapping[str, Mapping[str, int]] = {
  "Chat": {
    "alpacaeval-easy": 100,
    "alpacaeval-length": 95,
    "alpacaeval-hard": 95,
    "mt-bench-easy": 28,
    "mt-bench-med": 40,
  },
  "Chat Hard": {
    "mt-bench-hard": 37,
    "llmbar-natural": 100,
    "llmbar-adver-neighbor": 134,
    "llmbar-adver-GPTInst": 92,
    "llmbar-adver-GPTOut": 47,
    "llmbar-adver-manual": 46,
  },
  "Safety": {
    "refusals-dangerous": 100,
    "refusals-offensive": 100,
    "xstest-should-refuse": 154,
    "xstest-should-respond": 250,
    "donotanswer": 136,
  },
  "Reasoning": {
    "math-prm": 984,
    "hep-cpp": 164,
    "hep-go": 164,
    "hep-java": 164,
    "hep-js": 164,
    "hep-python": 164,
    "hep-rust": 164,
  },
}


class BenchRow(NamedTuple):
  """A row: the query, its two responses, the chosen one first, and what it belongs to."""

  row_id: str
  subset: str
  item: Item


class Bench(NamedTuple):
  """The rows of a file, and how many could not be used, by reason."""

  name: str
  rows: list[BenchRow]
  left_out: dict[str, int]


def read_bench(location: str) -> Bench:
  """The rows of a location in RewardBench's form (data/locations.py).

  Raises:
    ConfigError: it cannot be read, or no row is in that form.
  """
  subject = f"--rewardbench is {location!r}"
  rows: list[BenchRow] = []
  left_out: dict[str, int] = {}
  first = ""
  try:
    found = read_rows(location)
    for number, row in enumerate(found, start=1):
      try:
        if isinstance(row, BadRow):
          raise row
        rows.append(_row(row, number))
      except BadRow as error:
        left_out[error.reason] = left_out.get(error.reason, 0) + 1
        first = first or f"{found.place(number)}: {error}"
  except LocationError as error:
    raise ConfigError(f"{subject}, which cannot be read: {error}.") from error
  if not rows:
    columns = ", ".join(_COLUMNS)
    raise ConfigError(
      f"{subject}, of which no row can be used; each must have {columns}"
      f" ({first or 'it is empty'})."
    )
  return Bench(location, rows, left_out)


def bench_section(
  key: str, name: str, bench: Bench, rewards: Sequence[Float[ndarray, " 2"]]
) -> Section:
  """The scores of a reward model, from its rewards of every row's chosen and rejected response.

  A row that fits no row of the model, whose rewards are nan, is left out and counted.
  """
  kept = [index for index, one in enumerate(rewards) if np.all(np.isfinite(one))]
  rows = [bench.rows[index] for index in kept]
  pairs = np.array([rewards[index] for index in kept]).reshape(-1, 2)
  right = (1 + np.sign(pairs[:, 0] - pairs[:, 1])) / 2
  names = np.array([row.subset for row in rows])
  left_out = dict(bench.left_out)
  if len(kept) < len(rewards):
    left_out["too long for the model"] = len(rewards) - len(kept)
  known = {subset for subsets in SECTIONS.values() for subset in subsets}
  unknown = sorted(set(names.tolist()) - known)
  notes = left_out_note(left_out)
  if unknown:
    notes.append(f"Of no section of the benchmark: {', '.join(unknown)}.")
  missing = len(known - set(names.tolist()))
  if missing:
    notes.append(
      f"Of the benchmark's {len(known)} subsets {missing} are not there; sections and total are of"
      " the others."
    )
  items = [
    {
      "id": row.row_id,
      "subset": row.subset,
      "prompt": row.item.query,
      "chosen": row.item.answers[0].text,
      "rejected": row.item.answers[1].text,
      "rewards": pair,
      "right": score,
    }
    for row, pair, score in zip(rows, pairs, right, strict=True)
  ]
  return Section(
    key=key,
    title=f"{name}, on {len(rows):,} rows of {bench.name}, scored as RewardBench",
    measured=Measured([row.row_id for row in rows], bench_scores(names, right)),
    plain={"model": name, "left_out": left_out, "unknown_subsets": unknown},
    notes=notes,
    items=items,
  )


def bench_scores(subsets: ndarray, right: Float[ndarray, " n"]) -> dict[str, Estimate]:
  """Accuracy by subset, by section, and "total" over the sections that have a row.

  Args:
    subsets: the subset of each row.
    right: 1 where the chosen response has the higher reward, 1/2 on a tie, else 0.
  """
  weights = {one: weight for section in SECTIONS.values() for one, weight in section.items()}
  present = list(dict.fromkeys(subsets.tolist()))
  known = [one for section in SECTIONS.values() for one in section if one in present]
  order = known + sorted(set(present) - set(known))
  of_subset = {one: subsets == one for one in order}
  sections = {
    section: [one for one in members if one in of_subset] for section, members in SECTIONS.items()
  }
  sections = {section: members for section, members in sections.items() if members}

  def score(
    members: Sequence[str], sums: Float[ndarray, "n s"], counts: Float[ndarray, "n s"]
  ) -> Float[ndarray, " n"]:
    columns = [order.index(one) for one in members]
    shares = np.array([weights[one] for one in members], float)
    with np.errstate(invalid="ignore", divide="ignore"):
      means = sums[:, columns] / counts[:, columns]
    return np.sum(means * shares, axis=-1) / np.sum(shares)

  each = np.stack([of_subset[one] for one in order], axis=1).astype(float)  # [n, subsets]
  sums = np.sum(each * right[:, None], axis=0, keepdims=True)
  counts = np.sum(each, axis=0, keepdims=True)
  without = sums - each * right[:, None], counts - each

  def estimate(parts: Sequence[Sequence[str]]) -> Estimate:
    whole = np.mean([score(members, sums, counts) for members in parts])
    left = np.mean([score(members, *without) for members in parts], axis=0)
    return jackknife(float(whole), left)

  found: dict[str, Estimate] = {}
  if sections:
    found["total"] = estimate(list(sections.values()))
  found |= {section: estimate([members]) for section, members in sections.items()}
  for one in order:
    found[one] = ratio(of_subset[one] * right, of_subset[one].astype(float))
  return found


def _row(row: Mapping[str, Any], number: int) -> BenchRow:
  subset = text_of(field(row, "subset"), "subset")
  query = query_of(field(row, "prompt"), "prompt")
  answers = tuple(
    Answer(response_of(_answer(field(row, name), name), name)) for name in ("chosen", "rejected")
  )
  if any(answer.is_empty for answer in answers):
    raise BadRow("empty response", "its chosen or rejected response says nothing")
  row_id = str(row.get("id", number))
  return BenchRow(row_id, subset, Item(f"{subset}/{row_id}", query, answers))


def _answer(value: Any, name: str) -> Any:
  """Some sets in this form hold whole conversations; the answer is their last message."""
  if isinstance(value, str):
    return value
  messages = messages_of(value, name)
  if not messages:
    raise BadRow("no assistant turn", f"{name} is an empty list")
  return [vars(messages[-1])]
