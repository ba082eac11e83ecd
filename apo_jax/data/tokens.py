"""Text to token ids and back.

Query and response are tokenised apart and joined as ids, so no token crosses their border and the
ids that were sampled are the ones that are scored and trained on.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
import transformers

from apo_jax.config import ConfigError, DataConfig, TokenizerConfig
from apo_jax.data.rows import Response

SPECIAL = ("<pad>", "<bos>", "<eos>")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> transformers.PreTrainedTokenizerFast:
  """A byte-level BPE tokenizer learned from `texts`, with the interface of a hub tokenizer."""
  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  model.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=list(SPECIAL),
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  model.train_from_iterator(texts, trainer)
  pad, bos, eos = SPECIAL
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=model, pad_token=pad, bos_token=bos, eos_token=eos
  )


def load_tokenizer(path: str | Path) -> transformers.PreTrainedTokenizerBase:
  """The tokenizer of a local directory or hub name; ConfigError where there is none."""
  try:
    return transformers.AutoTokenizer.from_pretrained(str(path))
  except (OSError, ValueError) as error:
    raise ConfigError(
      f"config.tokenizer.path is {str(path)!r}, and no tokenizer could be read from it ({error}); "
      "give a directory or hub name that holds one."
    ) from error


@dataclasses.dataclass(frozen=True)
class Codec:
  """A tokenizer with the lengths and special ids of a run.

  Attributes:
    query_length: longest query in tokens, bos and separator included; longer ones lose their left.
    response_length: longest response in tokens, eos included; longer ones lose their right.
    eos: the id that ends a response. It may equal the padding id: lengths, never ids, say what
      is padding.
  """

  tokenizer: transformers.PreTrainedTokenizerBase
  query_length: int
  response_length: int
  bos: int | None
  eos: int
  separator: int | None

  @property
  def size(self) -> int:
    """The number of ids the tokenizer knows."""
    return len(self.tokenizer)

  def encode_queries(self, texts: Sequence[str]) -> list[list[int]]:
    """`<bos> query <separator>` as ids, at most `query_length` of them."""
    head = [] if self.bos is None else [self.bos]
    tail = [] if self.separator is None else [self.separator]
    room = self.query_length - len(head) - len(tail)
    return [head + ids[-room:] + tail for ids in self._encode(texts)]

  def encode_responses(self, texts: Sequence[str]) -> list[Response]:
    """Responses as ids without eos, at most `response_length - 1` of them.

    One that was cut counts as unfinished, so that nothing learns to end where it was cut.
    """
    room = self.response_length - 1
    return [Response(ids[:room], finished=len(ids) <= room) for ids in self._encode(texts)]

  def decode(self, ids: Sequence[int]) -> str:
    """The text of response ids."""
    return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

  def _encode(self, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
      return []
    # A text may hold the name of a special token: that is text, not the token.
    options = {"add_special_tokens": False, "split_special_tokens": True}
    return self.tokenizer(list(texts), **options)["input_ids"]


def make_codec(
  tokenizer: transformers.PreTrainedTokenizerBase, config: TokenizerConfig, data: DataConfig
) -> Codec:
  """The codec of a run; ConfigError where the tokenizer does not fit the config."""
  if len(tokenizer) > config.vocab_size:
    raise ConfigError(
      f"config.tokenizer.vocab_size is {config.vocab_size}, but the tokenizer has "
      f"{len(tokenizer)} entries; give at least as many."
    )
  if tokenizer.eos_token_id is None:
    raise ConfigError(
      f"config.tokenizer.path is {config.path!r}, whose tokenizer has no end-of-sequence token; "
      "a response could not end."
    )
  separator = None
  if data.separator:
    separator = tokenizer.convert_tokens_to_ids(data.separator)
    if separator is None or separator == tokenizer.unk_token_id:
      raise ConfigError(
        f"config.data.separator is {data.separator!r}, which is not one token of the tokenizer."
      )
  specials = (tokenizer.bos_token_id is not None) + (separator is not None)
  if data.query_length <= specials:
    raise ConfigError(
      f"config.data.query_length is {data.query_length}; it must be above {specials}, the tokens "
      "that stand before and behind every query."
    )
  if data.response_length < 2:
    raise ConfigError(
      f"config.data.response_length is {data.response_length}; it must be at least 2: a token and "
      "eos."
    )
  return Codec(
    tokenizer=tokenizer,
    query_length=data.query_length,
    response_length=data.response_length,
    bos=tokenizer.bos_token_id,
    eos=tokenizer.eos_token_id,
    separator=separator,
  )
