"""An LLM judge's results, as sections."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apo_jax.config.fields import ConfigError
from apo_jax.data.records import Preference
from apo_jax.evaluate.judge.asking import Answers, ask_all, cache_path
from apo_jax.evaluate.judge.cache import Cache
from apo_jax.evaluate.judge.endpoint import Endpoint
from apo_jax.evaluate.judge.measures import (
  LARGEST_FLIP,
  answered,
  preference_measures,
  win_measures,
  win_values,
)
from apo_jax.evaluate.judge.prompt import Comparison
from apo_jax.evaluate.request import JudgeRequest
from apo_jax.evaluate.section import Section
from apo_jax.evaluation.uncertainty import Measured


def of_preference(record: Preference) -> Comparison:
  """The best response of a preference against its worst, the first of equal ones."""
  scores = record.scores
  best, worst = scores.index(max(scores)), scores.index(min(scores))
  return Comparison(record.query_id, record.query, record.responses[best], record.responses[worst])


def judge_section(
  key: str,
  about: str,
  comparisons: Sequence[Comparison],
  judge: JudgeRequest,
  endpoint: Endpoint,
  directory: Path,
  *,
  of_people: bool,
) -> Section:
  """Asks the judge about all comparisons and measures what it says.

  Args:
    key: the section's.
    about: what is compared, for the title.
    comparisons: of a policy's responses with another's, or of preferred ones with others.
    judge: who is asked, and how.
    endpoint: where.
    directory: where the answers are kept.
    of_people: whether ours is what people preferred, and the judge is measured against them.

  Raises:
    ConfigError: not a single comparison was answered; the message has the reason.
  """
  cache = Cache(cache_path(directory, judge.model))
  found = ask_all(comparisons, judge, endpoint, cache)
  lengths = np.array(
    [float(len(one.ours.strip()) - len(one.theirs.strip())) for one in comparisons]
  )
  both, votes = answered(found.picks, lengths)
  if not np.any(both):
    raise ConfigError(
      f"--judge is {judge.model!r} at --judge_url {judge.url!r}, which gave no verdict on any of"
      f" the {len(comparisons):,} comparisons: {_why(found).rstrip('.')}."
    )
  measures = preference_measures(votes) if of_people else win_measures(votes)
  missing = len(comparisons) - int(np.sum(both))
  asked = [one for one, is_there in zip(comparisons, both, strict=True) if is_there]
  shown = {name: one for name, one in measures.items() if judge.repeats > 1 or not _repeated(name)}
  return Section(
    key=key,
    title=f"{judge.model} as the judge of {about}, on {len(asked):,} comparisons",
    measured=Measured([one.item_id for one in asked], shown),
    plain={
      "judge": judge.model,
      "url": judge.url,
      "missing": missing,
      "answers": found.counts,
      "failures": found.reasons,
      "stopped": found.stopped,
    },
    notes=_notes(found, missing, len(comparisons), cache.path, measures["flip_probability"].value),
    items=[
      {
        "query_id": one.item_id,
        "query": one.query,
        "ours": one.ours,
        "theirs": one.theirs,
        "picks": picks,
        "win": win,
      }
      for one, picks, win in zip(asked, votes.picks, win_values(votes), strict=True)
    ],
  )


def _repeated(name: str) -> bool:
  """Whether a number is there only where questions are repeated."""
  return name.endswith("_denoised") or name.startswith("flip_")


def _notes(found: Answers, missing: int, total: int, kept: Path, flip: float) -> list[str]:
  counts = found.counts
  notes = [
    f"{counts.get('calls', 0):,} calls, {counts.get('tokens', 0):,} tokens,"
    f" {counts.get('cached', 0):,} answers from {kept}."
  ]
  if missing:
    notes.append(f"Missing are {missing:,} of {total:,} comparisons: {_why(found)}.")
  if flip > LARGEST_FLIP:
    notes.append(f"The judge's answers flip with probability {flip:.2f}: nothing is de-noised.")
  return notes


def _why(found: Answers) -> str:
  """Why verdicts are missing."""
  reasons = [f"{number:,} questions failed ({why})" for why, number in found.reasons.items()]
  unreadable = found.counts.get("unreadable", 0)
  if unreadable:
    reasons.append(f"{unreadable:,} replies were no verdict")
  if found.counts.get("not_asked"):
    reasons.append(f"{found.counts['not_asked']:,} questions were not asked, as {found.stopped}")
  return "; ".join(reasons)
