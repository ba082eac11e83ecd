"""Which of a tokenizer's tokens no text has: those that are called special, or are used so."""

import copy
import re
from collections.abc import Collection, Iterable

import tokenizers
import transformers

# Words, and runs of blanks or line breaks, are added to tokenizers to be read in one piece: unlike
# "<|im_end|>" they are text.
_TEXT = re.compile(r"[\w\s]*")


def special_ids(tokenizer: transformers.PreTrainedTokenizerBase) -> set[int]:
  """The ids of special tokens, which no text has."""
  added = tokenizer.added_tokens_decoder
  return {id for id, token in added.items() if token.special} | set(tokenizer.all_special_ids)


def with_special(
  tokenizer: transformers.PreTrainedTokenizerBase, ids: Collection[int]
) -> transformers.PreTrainedTokenizerBase:
  """The tokenizer, or a copy to which those of its added tokens that have these ids are special.

  Fine-tunes add the token that ends a turn without calling it special. A text that holds its name
  would become the token, and decoding would write it.
  """
  added = tokenizer.added_tokens_decoder
  plain = [token for id, token in added.items() if id in ids and not token.special]
  if not plain:
    return tokenizer
  copied = copy.deepcopy(tokenizer)
  make_special(copied, plain)
  return copied


def make_special(
  tokenizer: transformers.PreTrainedTokenizerBase, tokens: Iterable[tokenizers.AddedToken]
) -> None:
  """Makes tokens that were added to the tokenizer special, in place."""
  special = [
    tokenizers.AddedToken(
      token.content,
      single_word=token.single_word,
      lstrip=token.lstrip,
      rstrip=token.rstrip,
      normalized=token.normalized,
      special=True,
    )
    for token in tokens
  ]
  tokenizer.add_tokens(special, special_tokens=True)


def written_around_turns(
  tokenizer: transformers.PreTrainedTokenizerBase, around: str
) -> list[tokenizers.AddedToken]:
  """The added tokens in what a template writes around turns that are not called special."""
  added = tokenizer.added_tokens_decoder.values()
  return [
    token
    for token in added
    if not token.special and token.content in around and not _TEXT.fullmatch(token.content)
  ]


def special_names(tokenizer: transformers.PreTrainedTokenizerBase) -> set[str]:
  """The texts that the tokenizer reads as special tokens."""
  added = tokenizer.added_tokens_decoder.values()
  return {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
