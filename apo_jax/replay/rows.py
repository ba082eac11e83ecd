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
    values = {"reward": said[place], "score": scores}
    for row in range(len(scores)):
      query, responses = _ids(rows, row, scores.shape[1])
      if not query:
        continue
      loss = share(*_alone(said, batch, kind, row))
      yield RowFindings(kind, row, loss, query, _responses(responses, values, row))


def _alone(said: Any, batch: RewardBatch, kind: str, row: int) -> tuple[Any, RewardBatch]:
  """The batch, and what was said of it, as if that row were all that is scored."""
  is_golden, only = kind == "golden", slice(row, row + 1)
  preferences = batch.preference_scores[:1] if is_golden else batch.preference_scores[only]
  rewards = said[0][:1] if is_golden else said[0][only]
  if is_golden:
    preferences, rewards = np.full_like(preferences, NO_SCORE), np.zeros_like(rewards)
  alone = batch._replace(preference_scores=preferences)
  if batch.golden_scores is None:
    return (rewards, None), alone
  golden = batch.golden_scores[only] if is_golden else batch.golden_scores[:1]
  golden_rewards, twins = said[1][only], batch.golden_twins
  if is_golden:
    twins = None if twins is None else twins[only]
  else:
    golden, golden_rewards = np.full_like(golden, NO_SCORE), np.zeros_like(said[1][:1])
    twins = None if twins is None else np.zeros_like(twins[:1])
  return (rewards, golden_rewards), alone._replace(golden_scores=golden, golden_twins=twins)


def _shares(parts: LossParts, said: Any, batch: Any) -> Callable[[Any, Any], float]:
  """What gives a part's share of the loss: of its sums, divided as the whole batch's are."""
  # Counts do not depend on what was said.
  counts = jax.jit(lambda said, batch: _counts(parts, said, batch))(said, batch)

  @jax.jit
  def share(said: Any, batch: Any) -> Array:
    totals = {name: sums.total for name, sums in parts.measure(said, batch).items()}
    return parts.combine(totals, counts)[0]

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
