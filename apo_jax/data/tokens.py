"""Text to token ids and back.

Query and response are tokenised apart and joined as ids, so no token crosses their border and the
ids that were sampled are the ones that are scored and trained on.
"""

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import tokenizers
import transformers

from apo_jax.config.fields import ConfigError
from apo_jax.config.lengths import judged_length
from apo_jax.config.schema import Config, SamplingConfig
from apo_jax.config.visible import visible
from apo_jax.data.dialogue import find_marker
from apo_jax.data.special_tokens import special_ids, with_special
from apo_jax.data.templates import Form, make_form
from apo_jax.data.tokenizer_limits import (
  check_files,
  check_tokenizer,
  has_code,
  told_apart,
)
from apo_jax.rows.rows import Response

SPECIAL = ("<pad>", "<bos>", "<eos>")

# Characters of a token that people see.
_SHOWN_OF_A_TOKEN = 100


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
    ConfigError: there is none, it is code of its own, or it would make too much of a text.
  """
  is_local = os.path.isdir(path)  # which a name too long for a path is not
  if is_local:
    check_files(Path(path), what)
  try:
    # Code that a tokenizer's folder brings along never runs, and nobody is asked whether it may.
    found = transformers.AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
  except BaseException as error:  # a broken file fails in any way, also in a panic of the library
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
      raise
    if is_local and has_code(Path(path)):
      raise ConfigError(
        f"{what} is {str(path)!r}, whose tokenizer is code of its own, by auto_map in its"
        " tokenizer_config.json, which is never run; it must be a tokenizer.json or"
        " tokenizer.model of a class that transformers has."
      ) from error
    raise ConfigError(
      f"{what} is {str(path)!r}, and no tokenizer could be read from it; it must be a directory or "
      f"hub name with a tokenizer.json or tokenizer.model ({_why_unread(path, error)})."
    ) from error
  check_tokenizer(found, what)
  return found


def _why_unread(path: str | Path, error: Exception) -> str:
  """Why a tokenizer cannot be read; of a tokenizer.model transformers names another package."""
  pointer = b"version https://git-lfs"
  for name in ("tokenizer.json", "tokenizer.model"):
    file = Path(path) / name
    if file.is_file() and file.read_bytes()[: len(pointer)] == pointer:
      return f"{name} is a pointer of git-lfs; `git lfs pull` in its folder brings the file"
  said = " ".join(str(error).split())[:200]
  if "tiktoken" in said and importlib.util.find_spec("sentencepiece") is None:
    return "a tokenizer.model is read by sentencepiece; pip install sentencepiece"
  return said


def token_texts(tokenizer: transformers.PreTrainedTokenizerBase, ids: Iterable[int]) -> list[str]:
  """The text each token adds when it follows another one.

  Decoded behind an anchor, because some tokenizers drop the blank before a first token.
  """
  with told_apart(tokenizer):
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
    start = len(tokenizer.decode(anchor))
    pairs = [[*anchor, token] for token in ids]
    return [text[start:] for text in tokenizer.batch_decode(pairs, skip_special_tokens=True)]


def visible_tokens(
  tokenizer: transformers.PreTrainedTokenizerBase, ids: Sequence[int]
) -> list[str]:
  """The text of each token for people: special ones by their names, line breaks as \\n."""
  found = []
  for token, text in zip(ids, token_texts(tokenizer, ids), strict=True):
    # Special tokens have no text, and parts of a character none that can be read.
    if not text or "\ufffd" in text:
      text = str(tokenizer.convert_ids_to_tokens(token))
    found.append(visible(text, _SHOWN_OF_A_TOKEN))
  return found


@dataclasses.dataclass(frozen=True)
class Codec:
  """A tokenizer with the form of queries, the lengths and the special ids of a run.

  Attributes:
    form: how a query becomes ids: the HH form, or a chat template.
    query_length: longest query in tokens, with all that the form adds; longer ones lose their
      left, under a template whole turns of it.
    row_length: tokens of a query, a response and eos in training.
    judged_length: the same on the test side, where samples may be longer.
    size: one more than the tokenizer's largest id.
    ends: the ids that end a response when they are drawn, eos among them.
    never_drawn: the other special ids, and those below `size` that no token has. No text has
      them, so a sample with one would be told from a golden response by what nobody can read.
  """

  tokenizer: transformers.PreTrainedTokenizerBase
  form: Form
  query_length: int
  row_length: int
  judged_length: int
  size: int
  ends: frozenset[int]
  never_drawn: frozenset[int]

  @property
  def bos(self) -> int | None:
    """The id every query begins with, or None."""
    return self.form.bos

  @property
  def eos(self) -> int:
    """The id that stands behind a response in rows, whatever ended it.

    It may equal the padding id: lengths, never ids, say what is padding.
    """
    return self.form.eos

  def texts(self) -> list[str]:
    """The text of every id, as it reads behind another; special ones and ends have none."""
    return token_texts(self.form.tokenizer, range(self.size))

  @functools.cached_property
  def shortest_query(self) -> int:
    """The least tokens of a query that say something: one beside those that the form adds."""
    return self.form.num_added + 1

  def encode_queries(self, texts: Sequence[str]) -> list[list[int]]:
    """Queries as ids, at most `query_length` of them.

    Raises:
      ConfigError: the chat template refuses one, or one fits in no part of it.
    """
    whole = self.form.query_ids(texts)
    found = [
      self.cut_query(text, ids, self.query_length) for text, ids in zip(texts, whole, strict=True)
    ]
    if None in found:
      text = texts[found.index(None)]
      raise ConfigError(
        f"config.data.query_length is {self.query_length}, which the shortest part of the query "
        f"{text[:60]!r} does not fit; give more."
      )
    return found

  def cut_query(self, text: str, ids: list[int], room: int) -> list[int] | None:
    """A query's ids, at most `room` of them: a longer one loses its left.

    Args:
      text: of the query.
      ids: of the whole query.
      room: tokens, at least `shortest_query`.

    Returns:
      None where no part of the query fits, as of a question that begins with an emoji of many
      tokens.
    """
    return ids if len(ids) <= room else self.form.shorter_query_ids(text, room)

  def encode_responses(self, texts: Sequence[str]) -> list[Response]:
    """Responses of one turn as ids without eos, whole."""
    return [Response(ids) for ids in self.form.response_ids(texts)]

  def encode_answers(
    self, queries: Sequence[str], answers: Sequence[Sequence[str]]
  ) -> list[list[Response] | None]:
    """The responses of records as ids without eos, whole; some may go on over several turns.

    Args:
      queries: one for each record.
      answers: its responses.

    Returns:
      None for a record whose template writes the query otherwise before later turns.
    """
    single = iter(
      self.encode_responses([text for some in answers for text in some if not find_marker(text)])
    )
    found: list[list[Response] | None] = []
    for query, some in zip(queries, answers, strict=True):
      ids = [
        self.form.later_turns_ids(query, text) if find_marker(text) else next(single).tokens
        for text in some
      ]
      found.append(None if None in ids else [Response(one) for one in ids])
    return found

  def decode(self, ids: Sequence[int]) -> str:
    """The text of response ids."""
    with told_apart(self.tokenizer):
      return self.tokenizer.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
      )


def make_codec(
  tokenizer: transformers.PreTrainedTokenizerBase,
  config: Config,
  vocab_size: int,
  ends: Collection[int] = (),
) -> Codec:
  """The codec of a run.

  Args:
    tokenizer: is copied where it must change.
    config: the run's.
    vocab_size: the model's, which may exceed the tokenizer's.
    ends: ids that end a response, besides the tokenizer's eos and what the form writes behind one;
      those that no token of the tokenizer and the model has are passed over.

  Raises:
    ConfigError: the tokenizer does not fit the model or the config.
  """
  data = config.data
  entries = set(tokenizer.get_vocab().values())
  # Text is never read as a special token, so one beyond the model's table does no harm: Gemma 3
  # has such a one, for images.
  beyond = {index for index in entries if index >= vocab_size} - special_ids(tokenizer)
  size = max(entries) + 1
  if beyond or (tokenizer.eos_token_id or 0) >= vocab_size:
    raise ConfigError(
      f"The tokenizer {tokenizer.name_or_path!r} has {size} entries, but the model only "
      f"{vocab_size}; give the model's own tokenizer, or where weights are random a "
      f"config.tokenizer.vocab_size of at least {size}."
    )
  named = {index for index in (tokenizer.eos_token_id, *ends) if index is not None}
  form = make_form(with_special(tokenizer, named), data)
  if form.eos >= vocab_size:
    raise ConfigError(
      f"config.data.chat_template writes {tokenizer.convert_ids_to_tokens(form.eos)!r} behind a "
      f"response, token {form.eos} of the tokenizer {tokenizer.name_or_path!r}, but the model has "
      f"only {vocab_size}; give the tokenizer or the template that the model was made with."
    )
  if data.query_length <= form.num_added:
    raise ConfigError(
      f"config.data.query_length is {data.query_length}; it must be above {form.num_added}, the "
      "tokens that stand before and behind a query's text."
    )
  size = min(size, vocab_size)
  known = entries & set(range(size))
  all_ends = frozenset((named | {form.eos}) & known)
  without_text = special_ids(form.tokenizer) | (set(range(size)) - known)
  codec = Codec(
    tokenizer,
    form,
    data.query_length,
    data.row_length,
    judged_length(config),
    size,
    ends=all_ends,
    never_drawn=frozenset(without_text & set(range(size))) - all_ends,
  )
  _check_stop_strings(codec, config.sampling)
  return codec


def _check_stop_strings(codec: Codec, sampling: SamplingConfig) -> None:
  """The sampler reads stop strings in the texts of single tokens; they must be readable there."""
  tokenizer = codec.tokenizer
  fates = {
    codec.form.tokenizer.convert_ids_to_tokens(index): (
      "ends a response by itself" if index in codec.ends else "is never drawn"
    )
    for index in sorted(special_ids(codec.form.tokenizer))
  }
  for name in ("training", "evaluation"):
    for stop in getattr(sampling, name).stop:
      special = next((token for token in fates if token in stop), None)
      if special is not None:
        raise ConfigError(
          f"config.sampling.{name}.stop holds {stop!r}; {special!r} is a token that "
          f"{fates[special]}, so leave it out."
        )
      with told_apart(tokenizer):
        ids = tokenizer(stop, add_special_tokens=False)["input_ids"]
      if stop not in "".join(token_texts(tokenizer, ids)):
        raise ConfigError(
          f"config.sampling.{name}.stop holds {stop!r}, a character of which the tokenizer splits "
          "over several tokens; the sampler cannot see it. Give a stop string without it."
        )
