"""The ids of a text that goes on behind ids that are there."""

from collections.abc import Callable, Sequence

import transformers


def continuation(
  tokenizer: transformers.PreTrainedTokenizerBase,
  read: Callable[[Sequence[str]], list[list[int]]],
  heads: Sequence[Sequence[int]],
  text: str,
) -> list[int]:
  """The ids of a text behind the first of the heads that keeps its own ids there, or alone."""
  for head in heads:
    before = tokenizer.decode(head, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    (ids,) = read([before + text])
    if ids[: len(head)] == list(head):
      return ids[len(head) :]
  return read([text])[0]
