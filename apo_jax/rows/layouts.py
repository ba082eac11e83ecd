"""How the responses to a query become rows: one a row, or all in one row behind their query."""

import dataclasses
from collections.abc import Callable, Sequence

from apo_jax.rows.rows import Item, Rows, make_rows, make_shared_rows, row_length, shared_row_length

LENGTH_STEP = 8  # padded lengths that are computed are multiples of it

# The time that a model takes for a row of so many tokens, in FLOPs (`models.row_cost.row_flops`).
RowFlops = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class RowLayout:
  """How items of at most `num_responses` responses are laid out.

  Attributes:
    num_responses: R, the responses that there is room for.
    shared: rows are [B, T], with all responses to a query in one; else [B, R, T].
    lengths: the padded lengths T, ascending; two may be equal.
  """

  num_responses: int
  shared: bool
  lengths: tuple[int, ...]

  def needed(self, item: Item) -> int:
    """The least length that holds an item."""
    return shared_row_length(*item) if self.shared else row_length(*item)

  def rows(self, items: Sequence[Item], bucket: int, eos: int) -> Rows:
    """The items' rows, padded to the length of that number."""
    length = self.lengths[bucket]
    if self.shared:
      return make_shared_rows(items, length, eos)
    return make_rows(items, self.num_responses, length, eos)


def choose_layout(
  row_flops: RowFlops,
  num_responses: int,
  query_length: int,
  lengths: Sequence[int],
  longest_shared: int | None = None,
) -> RowLayout:
  """The layout that a model reads in less time, as far as FLOPs tell.

  Args:
    row_flops: what the model takes for a row of so many tokens.
    num_responses: the most responses of an item.
    query_length: tokens of the longest query.
    lengths: padded lengths of separate rows, ascending; the last holds the longest query and the
      longest response. The layout has one length for each of them.
    longest_shared: the places that all responses to a query need at most; None is what the longest
      query and as many responses as the longest row holds behind it need.
  """
  if longest_shared is None:
    longest_shared = query_length + num_responses * (lengths[-1] - query_length)
  shared = shared_lengths(longest_shared, lengths)
  pays = sharing_pays(row_flops, num_responses, lengths[-1], shared[-1])
  return RowLayout(num_responses, pays, shared if pays else tuple(lengths))


def shared_lengths(longest: int, lengths: Sequence[int]) -> tuple[int, ...]:
  """Padded lengths of shared rows, one for each of separate rows' `lengths`.

  They are the same shares of the `longest` as those are of the longest separate row, rounded up.
  """

  def share(length: int) -> int:
    steps = -(-length * longest // (lengths[-1] * LENGTH_STEP))
    return min(steps * LENGTH_STEP, longest)

  return (*(share(length) for length in lengths[:-1]), longest)


def sharing_pays(
  row_flops: RowFlops, num_responses: int, separate_length: int, shared_length: int
) -> bool:
  """Whether a shared row takes less time than `num_responses` separate rows.

  It has fewer tokens, but attention computes pairs across responses and masks them: long responses
  to a short query are quicker apart.
  """
  separate = num_responses * row_flops(separate_length)
  return num_responses > 1 and row_flops(shared_length) < separate
