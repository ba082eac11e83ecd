"""Asks a judge about comparisons, in both orders: from the cache, else in parallel, in budget."""

import collections
import concurrent.futures
import itertools
import math
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from apo_jax.evaluate.judge.cache import Cache, key_of
from apo_jax.evaluate.judge.endpoint import AskingFailed, Endpoint
from apo_jax.evaluate.judge.prompt import Comparison, messages
from apo_jax.evaluate.judge.verdicts import read_verdict
from apo_jax.evaluate.request import JudgeRequest

# The part of the comparisons that is asked repeatedly (arXiv 2408.13006 repeats one split of five),
# and the least of it.
_REPEATED_SHARE = 0.2
_LEAST_REPEATED = 10
# After so many failures with no answer in between, nothing more is asked.
_FAILURES_IN_A_ROW = 8
# A reply that is no verdict is asked for once more.
_ATTEMPTS = 2


class Task(NamedTuple):
  """A question: which comparison, in which order, and the how-manieth time."""

  index: int
  order: int
  repeat: int


class Answers(NamedTuple):
  """What a judge said.

  Attributes:
    picks: 1 where it picked ours, 0 where theirs, 1/2 on a tie, nan without a verdict; by
      comparison, by order (0 ours first, 1 ours second) and by repeat.
    counts: "calls", "cached" answers, "unreadable" replies, "failed" questions, questions that were
      "not_asked", "tokens".
    reasons: why questions failed, with how many did.
    stopped: why nothing more was asked, or None.
  """

  picks: Float[np.ndarray, "n 2 K"]
  counts: dict[str, int]
  reasons: dict[str, int]
  stopped: str | None


def ask_all(
  comparisons: Sequence[Comparison], judge: JudgeRequest, endpoint: Endpoint, cache: Cache
) -> Answers:
  """The verdicts in both orders, and for a part of the comparisons `judge.repeats` times."""
  asking = _Asking(judge, endpoint, cache)
  picks = np.full((len(comparisons), 2, judge.repeats), np.nan)
  tasks = _tasks(comparisons, judge.repeats)
  for index, comparison in enumerate(comparisons):
    if comparison.is_same:
      picks[index, :, 0] = 0.5
  pool = concurrent.futures.ThreadPoolExecutor(judge.parallel)
  try:
    futures = {pool.submit(asking.ask, comparisons[task.index], task): task for task in tasks}
    for future in concurrent.futures.as_completed(futures):
      found = future.result()
      if found is not None:
        picks[tuple(futures[future])] = found
  finally:
    # Where this is left early, what waits is not asked any more, and nobody waits for what is.
    asking.stop("it was interrupted")
    pool.shutdown(wait=False, cancel_futures=True)
  return Answers(picks, dict(asking.counts), dict(asking.reasons), asking.stopped_early)


def cache_path(directory: Path, model: str) -> Path:
  """The file of a judge's answers."""
  return directory / f"judge_{re.sub(r'[^A-Za-z0-9.-]+', '_', model)}.jsonl"


def _tasks(comparisons: Sequence[Comparison], repeats: int) -> list[Task]:
  """All questions: first every comparison in both orders, then the repeats of the first ones."""
  asked = [index for index, one in enumerate(comparisons) if not one.is_same]
  repeated = max(_LEAST_REPEATED, math.ceil(_REPEATED_SHARE * len(asked)))
  once = itertools.product(asked, (0, 1), (0,))
  again = itertools.product(asked[:repeated], (0, 1), range(1, repeats))
  return [Task(*one) for one in itertools.chain(once, again)]


class _Asking:
  """The state that the threads share."""

  def __init__(self, judge: JudgeRequest, endpoint: Endpoint, cache: Cache):
    self._judge, self._endpoint, self._cache = judge, endpoint, cache
    self._lock = threading.Lock()
    self._in_a_row = 0
    self._stopped: str | None = None
    self.stopped_early: str | None = None
    self.counts: collections.Counter[str] = collections.Counter()
    self.reasons: collections.Counter[str] = collections.Counter()

  def ask(self, comparison: Comparison, task: Task) -> float | None:
    """Whether ours was picked, as in `Answers.picks`; None without a verdict."""
    asked = messages(comparison, ours_first=task.order == 0)
    for attempt in range(_ATTEMPTS):
      reply = self._reply(asked, comparison, task, attempt)
      if reply is None:
        return None
      verdict = read_verdict(reply)
      if verdict is not None:
        picks_first = {"A": 1.0, "tie": 0.5, "B": 0.0}[verdict]
        return picks_first if task.order == 0 else 1 - picks_first
    with self._lock:
      self.counts["unreadable"] += 1
    return None

  def stop(self, reason: str) -> None:
    """Nothing more is asked."""
    with self._lock:
      self._stopped = self._stopped or reason

  def _reply(
    self, asked: list[dict[str, str]], comparison: Comparison, task: Task, attempt: int
  ) -> str | None:
    judge = self._judge
    key = key_of(judge.model, judge.url, judge.temperature, asked, task.repeat, attempt)
    known = self._cache.get(key)
    if known is not None:
      with self._lock:
        self.counts["cached"] += 1
      return known.text
    if not self._may_call():
      return None
    try:
      reply = self._endpoint.ask(asked)
    except AskingFailed as error:
      self._failed(error)
      return None
    about: dict[str, Any] = {
      "item": comparison.item_id,
      "ours_first": task.order == 0,
      "repeat": task.repeat,
      "attempt": attempt,
    }
    self._cache.put(key, reply, about)
    with self._lock:
      self._in_a_row = 0
      self.counts["tokens"] += reply.tokens
    return reply.text

  def _may_call(self) -> bool:
    """Takes a call of the budget, where nothing has ended the asking."""
    judge = self._judge
    with self._lock:
      if judge.budget is not None and self.counts["calls"] >= judge.budget:
        self._stop_early(f"--judge_budget of {judge.budget:,} calls is used up")
      if judge.token_budget is not None and self.counts["tokens"] >= judge.token_budget:
        self._stop_early(f"--judge_token_budget of {judge.token_budget:,} tokens is used up")
      self.counts["calls" if self._stopped is None else "not_asked"] += 1
      return self._stopped is None

  def _failed(self, error: AskingFailed) -> None:
    with self._lock:
      self.counts["failed"] += 1
      self.reasons[str(error)] += 1
      self._in_a_row += 1
      if error.is_final or self._in_a_row >= _FAILURES_IN_A_ROW:
        self._stop_early(f"the endpoint fails: {error}")

  def _stop_early(self, reason: str) -> None:
    if self._stopped is None:
      self._stopped = self.stopped_early = reason
