"""Text to token ids and back.

Query and response are tokenised apart and joined as ids, so no token crosses their border and the
ids that were sampled are the ones that are scored and trained on.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
import transformers

from apo_jax.config import Config, ConfigError, SamplingConfig
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


def load_tokenizer(path: str | Path, what: str) -> transformers.PreTrainedTokenizerBase:
  """The tokenizer of a local directory or hub name; `what` names it in errors.

  Raises:
    ConfigError: there is none.
  """
  try:
    return transformers.AutoTokenizer.from_pretrained(str(path))
  except (OSError, ValueError, ImportError) as error:
    raise ConfigError(
      f"{what} is {str(path)!r}, and no tokenizer could be read from it; it must be a directory or "
      f"hub name with a tokenizer.json ({' '.join(str(error).split())[:200]})."
    ) from error


def token_texts(tokenizer: transformers.PreTrainedTokenizerBase, ids: Iterable[int]) -> list[str]:
  """The text each token adds when it follows another one.

  Decoded behind an anchor, because some tokenizers drop the blank before a first token.
  """
  anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
  start = len(tokenizer.decode(anchor))
  pairs = [[*anchor, token] for token in ids]
  return [text[start:] for text in tokenizer.batch_decode(pairs, skip_special_tokens=True)]


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

  def texts(self) -> list[str]:
    """The text of every id, as it reads behind another."""
    return token_texts(self.tokenizer, range(self.size))

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


def make_codec(tokenizer: transformers.PreTrainedTokenizerBase, config: Config) -> Codec:
  """The codec of a run.

  Raises:
    ConfigError: the tokenizer does not fit the config.
  """
  data, size = config.data, config.tokenizer.vocab_size
  largest = max(tokenizer.get_vocab().values()) + 1
  if largest > size:
    raise ConfigError(
      f"config.tokenizer.vocab_size is {size}, but the tokenizer has {largest} entries; give at "
      "least as many."
    )
  if tokenizer.eos_token_id is None:
    raise ConfigError(
      f"config.tokenizer.path is {config.tokenizer.path!r}, whose tokenizer has no end-of-sequence "
      "token; a response could not end."
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
  _check_stop_strings(tokenizer, config.sampling)
  return Codec(
    tokenizer=tokenizer,
    query_length=data.query_length,
    response_length=data.response_length,
    bos=tokenizer.bos_token_id,
    eos=tokenizer.eos_token_id,
    separator=separator,
  )


def _check_stop_strings(
  tokenizer: transformers.PreTrainedTokenizerBase, sampling: SamplingConfig
) -> None:
  """The sampler reads stop strings in the texts of single tokens; they must be readable there."""
  for name in ("training", "evaluation"):
    for stop in getattr(sampling, name).stop:
      ids = tokenizer(stop, add_special_tokens=False)["input_ids"]
      if stop not in "".join(token_texts(tokenizer, ids)):
        raise ConfigError(
          f"config.sampling.{name}.stop holds {stop!r}, a character of which the tokenizer splits "
          "over several tokens; the sampler cannot see it. Give a stop string without it."
        )
