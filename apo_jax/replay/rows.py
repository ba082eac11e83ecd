"""What each row of a batch has to do with its loss, and what it says."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from apo_jax.policy_step import PolicyBatch
from apo_jax.reward_step import RewardBatch
from apo_jax.rows.rows import NO_SCORE, RESPONSE_SEGMENT, SHARED_SEGMENT, Rows
from apo_jax.training.update import LossParts


class RowResponse(NamedTuple):
  """A response of a row.

  Attributes:
    ids: its tokens, eos with them.
    numbers: what is known of it, by name.
  """

  ids: Sequence[int]
  numbers: dict[str, float]


class RowFindings(NamedTuple):
  """A row of a batch: a query with its responses.

  Attributes:
    kind: "query" of a policy's batch, "preference" or "golden" of a reward model's.
    number: within its kind, from 0.
    loss: its share of the batch's loss; all shares add up to that.
    query: its tokens.
    responses: those that it holds.
  """

  kind: str
  number: int
  loss: float
  query: Sequence[int]
  responses: Sequence[RowResponse]


def rows_of(parts: LossParts, said: Any, batch: Any) -> list[RowFindings]:
  """All rows of a batch but padding.

  Args:
    parts: of the loss.
    said: what the model says of the whole batch.
    batch: of the host.

  Raises:
    TypeError: it is no batch of a policy's or reward model's.
  """
  if isinstance(batch, PolicyBatch):
    return list(_of_policy(parts, said, batch))
  if isinstance(batch, RewardBatch):
    return list(_of_rewards(parts, said, batch))
  raise TypeError(f"{type(batch).__name__} is no batch of an update.")


def _of_policy(parts: LossParts, said: Any, batch: PolicyBatch) -> Iterator[RowFindings]:
  share, valid = _shares(parts, said, batch), np.asarray(batch.valid)
  values = {"logprob": said[0], "reward": batch.rewards, "reference": batch.reference_logprobs}
  for row in range(len(valid)):
    query, responses = _ids(batch.rows, row, valid.shape[1])
    if not query:
      continue
    loss = share(*jax.tree.map(lambda array, row=row: array[row : row + 1], (said, batch)))
    yield RowFindings("query", row, loss, query, _responses(responses, values, row))


def _of_rewards(parts: LossParts, said: Any, batch: RewardBatch) -> Iterator[RowFindings]:
  share = _shares(parts, said, batch)
  for kind, rows, scores, place in (
    ("preference", batch.preferences, batch.preference_scores, 0),
    ("golden", batch.golden, batch.golden_scores, 1),
  ):
    if rows is None or scores is None:
      continue
    values = {"reward": said[place].rewards, "score": scores}
    for row in range(len(scores)):
      query, responses = _ids(rows, row, scores.shape[1])
      if not query:
        continue
      loss = share(*_alone(said, batch, kind, row))
      yield RowFindings(kind, row, loss, query, _responses(responses, values, row))


def _alone(said: Any, batch: RewardBatch, kind: str, row: int) -> tuple[Any, RewardBatch]:
  """The batch, and what was said of it, as if that row were all that is scored."""
  is_golden, only, none = kind == "golden", slice(row, row + 1), slice(0, 1)

  def one_of(said: Any, scores: Any, twins: Any, wanted: bool) -> tuple[Any, Any, Any]:
    """The row where it is wanted; else one of padding, of which nothing was said."""
    some = jax.tree.map(lambda array: array[only if wanted else none], (said, scores, twins))
    if wanted:
      return some
    judged, scores, twins = some
    return *jax.tree.map(np.zeros_like, (judged,)), np.full_like(scores, NO_SCORE), twins

  judged, scores, _ = one_of(said[0], batch.preference_scores, None, not is_golden)
  alone = batch._replace(preference_scores=scores)
  if batch.golden_scores is None:
    return said._replace(preferences=judged, golden=None), alone
  golden, golden_scores, twins = one_of(said[1], batch.golden_scores, batch.golden_twins, is_golden)
  if twins is not None and not is_golden:
    twins = np.zeros_like(twins)
  said = said._replace(preferences=judged, golden=golden)
  return said, alone._replace(golden_scores=golden_scores, golden_twins=twins)


def _shares(parts: LossParts, said: Any, batch: Any) -> Callable[[Any, Any], float]:
  """What gives a part's share of the loss: of its sums, divided as the whole batch's are."""

  def of_all(said: Any, batch: Any) -> tuple[dict[str, Array], Any]:
    gathered = None if parts.gather is None else parts.gather(said, batch)
    return _counts(parts, said, batch), gathered

  # Counts do not depend on what was said.
  counts, gathered = jax.jit(of_all)(said, batch)

  @jax.jit
  def share(said: Any, batch: Any) -> Array:
    totals = {name: sums.total for name, sums in parts.measure(said, batch).items()}
    return parts.combine(totals, counts, gathered)[0]

  return lambda said, batch: float(share(said, batch))


def _counts(parts: LossParts, said: Any, batch: Any) -> dict[str, Array]:
  return {name: sums.count for name, sums in parts.measure(said, batch).items()}


def _responses(ids: Sequence[Sequence[int]], values: dict[str, Any], row: int) -> list[RowResponse]:
  return [
    RowResponse(
      one,
      {name: float(known[row, number]) for name, known in values.items() if known is not None},
    )
    for number, one in enumerate(ids)
    if one
  ]


def _ids(rows: Rows, row: int, num_responses: int) -> tuple[list[int], list[list[int]]]:
  """The ids of a row's query and of each response, of either layout; empty where there is none."""
  tokens, segments = np.asarray(rows.tokens)[row], np.asarray(rows.segment_ids)[row]
  if tokens.ndim == 1:
    places = [(tokens, segments, RESPONSE_SEGMENT + number) for number in range(num_responses)]
  else:
    places = [(*pair, RESPONSE_SEGMENT) for pair in zip(tokens, segments, strict=True)]
  query = next((ids for one, of, _ in places if (ids := one[of == SHARED_SEGMENT].tolist())), [])
  return query, [one[of == segment].tolist() for one, of, segment in places]
