"""The tokenizer of a run: its own copy, or what the config says."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import jax
import transformers
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.data.chat_form import complete_template
from apo_jax.data.records import GameData
from apo_jax.data.templates import find_template
from apo_jax.data.tokens import Codec, load_tokenizer, make_codec, train_tokenizer
from apo_jax.devices.processes import barrier
from apo_jax.logs.files import file_sha256, read_json, write_json
from apo_jax.logs.places import copy_files, is_bucket, local_copy, remove_tree
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.models.hugging_face.checkpoint import GENERATION_FILE, Checkpoint
from apo_jax.models.hugging_face.config import read_ends
from apo_jax.run.origins import Origins


def make_run_codec(
  tokenizer: transformers.PreTrainedTokenizerBase, config: Config, origins: Origins
) -> Codec:
  """The codec whose ids all models read; policy's checkpoint and tokenizer may name more ends.

  Raises:
    ConfigError: the tokenizer does not fit the models or the config.
  """
  ends: frozenset[int] = frozenset()
  if origins.policy_checkpoint is not None:
    ends = read_ends(origins.policy_checkpoint.generation_directory, "config.model.checkpoint")
  return make_codec(tokenizer, config, origins.vocab_size, ends | _ends_of(tokenizer))


def make_tokenizer(
  directory: RunDirectory, config: Config, origins: Origins, data: GameData
) -> transformers.PreTrainedTokenizerBase:
  """The run's tokenizer: its own copy where there is one, else read or trained as the config says.

  Raises:
    ConfigError: there is none where the config, or the run directory, says; its chat template has
      changed since the run was started; or a reward model's checkpoint was made for another.
  """
  tokenizer, is_kept = _find_tokenizer(directory, config, origins, data)
  template = find_template(tokenizer, config.data.chat_template)
  if template is not None:
    template = complete_template(tokenizer, template)
  if is_kept and template not in (None, tokenizer.chat_template):
    raise ConfigError(
      f"config.data.chat_template is {config.data.chat_template!r}, which has changed since the"
      f" run in {directory} was started; give another --run_dir, or the old template to continue."
    )
  if template is not None:
    tokenizer.chat_template = template  # saved with the tokenizer, for whoever uses the policy
  for field, name in (
    ("config.reward.checkpoint", config.reward.checkpoint),
    ("config.testing_reward.checkpoint", config.testing_reward.checkpoint),
  ):
    if name:
      _check_same_ids(tokenizer, origins.checkpoints[field], field, name)
  return tokenizer


def _check_same_ids(
  tokenizer: transformers.PreTrainedTokenizerBase, checkpoint: Checkpoint, field: str, name: str
) -> None:
  """Checks that a reward model's checkpoint was made for the run's tokenizer.

  A token that only pads may be missing there, or have another name: no model reads it.
  """
  other = load_tokenizer(checkpoint.tokenizer_directory, field)
  ids = other.get_vocab()
  only_pads = _only_pads(tokenizer)
  for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
    if ids.get(token) == index or (token == only_pads and _pads(other, index)):
      continue
    there = f"there {ids[token]}" if token in ids else "not there"
    raise ConfigError(
      f"{field} is {name!r}, whose tokenizer is not the policy's: token {token!r} is {index} in the"
      f" one and {there}; all models read the same token ids, so give a reward model of the"
      " policy's tokenizer."
    )


def _only_pads(tokenizer: transformers.PreTrainedTokenizerBase) -> str | None:
  """The padding token, where it is nothing else: no end, no beginning, no part of the template."""
  token = tokenizer.pad_token
  others = (tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token)
  template = tokenizer.chat_template
  written = template if isinstance(template, str) else str(template or "")
  return None if token is None or token in others or token in written else token


def _pads(tokenizer: transformers.PreTrainedTokenizerBase, index: int) -> bool:
  """Whether an id is free in a tokenizer, or pads there too."""
  return index == tokenizer.pad_token_id or index not in tokenizer.get_vocab().values()


@contextlib.contextmanager
def shared_tokenizer(
  directory: RunDirectory, tokenizer: transformers.PreTrainedTokenizerBase
) -> Iterator[transformers.PreTrainedTokenizerBase]:
  """The run directory's copy, which all processes read; a new run's is made here.

  It counts as the run's own when the directory does (`ownership.claim`), and is gone again where
  the run is refused before that.
  """
  makes = jax.process_index() == 0 and not directory.tokenizer_finished.exists()
  if makes:
    with tempfile.TemporaryDirectory() as place:
      # Files of a bucket are written whole, by nothing but our own.
      made = Path(place) if is_bucket(directory.path) else directory.tokenizer
      tokenizer.save_pretrained(made)
      _keep_ends(tokenizer, made)
      copy_files(made, directory.tokenizer)
  barrier("tokenizer")
  try:
    yield load_own_tokenizer(directory)
  except ConfigError:
    if makes:
      remove_tree(directory.tokenizer)
    raise


def write_tokenizer_hashes(directory: RunDirectory) -> None:
  """Says that the copy is the run's own, and what it holds."""
  write_json(directory.tokenizer_finished, _hashes(directory))


def _hashes(directory: RunDirectory) -> dict[str, str]:
  finished = directory.tokenizer_finished
  found = sorted(path for path in directory.tokenizer.iterdir() if path.is_file())
  return {path.name: file_sha256(path) for path in found if path != finished}


def _ends_of(tokenizer: transformers.PreTrainedTokenizerBase) -> frozenset[int]:
  """The ids that end a response by the files that lie beside a tokenizer's own."""
  name = tokenizer.name_or_path
  if not name:
    return frozenset()
  if not Path(name).is_dir():
    try:
      name = Path(huggingface_hub.hf_hub_download(name, GENERATION_FILE)).parent
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError):  # it has none
      return frozenset()
  return read_ends(Path(name), "config.tokenizer.path")


def _keep_ends(tokenizer: transformers.PreTrainedTokenizerBase, directory: Path) -> None:
  """Writes beside the run's copy what ends a response by the files beside the original."""
  ends = _ends_of(tokenizer)
  if ends:
    write_json(directory / GENERATION_FILE, {"eos_token_id": sorted(ends)})


def load_own_tokenizer(directory: RunDirectory) -> transformers.PreTrainedTokenizerBase:
  """The run directory's copy.

  Raises:
    ConfigError: there is none, or it is not what the run was started with.
  """
  if directory.tokenizer_finished.exists():
    _check_unchanged(directory)
  return load_tokenizer(local_copy(directory.tokenizer), "the run directory's tokenizer")


def _check_unchanged(directory: RunDirectory) -> None:
  finished, found = directory.tokenizer_finished, _hashes(directory)
  try:
    known = dict(read_json(finished))
  except (TypeError, ValueError):
    changed = [finished.name]
  else:
    changed = sorted(name for name in known | found if known.get(name) != found.get(name))
  if changed:
    raise ConfigError(
      f"{directory.tokenizer / changed[0]} has changed since the run in {directory} was started;"
      " other token ids give other numbers: put back what was there, or start another run."
    )


def _find_tokenizer(
  directory: RunDirectory, config: Config, origins: Origins, data: GameData
) -> tuple[transformers.PreTrainedTokenizerBase, bool]:
  """The tokenizer, and whether it is the run directory's own copy."""
  if directory.tokenizer_finished.exists():
    return load_own_tokenizer(directory), True
  if config.tokenizer.path:
    return load_tokenizer(config.tokenizer.path, "config.tokenizer.path"), False
  if origins.policy_checkpoint is not None:
    directory = origins.policy_checkpoint.tokenizer_directory
    return load_tokenizer(directory, "config.model.checkpoint"), False
  return train_tokenizer(_training_texts(data), config.tokenizer.vocab_size), False


def _training_texts(data: GameData) -> list[str]:
  """Every text but the test side's."""
  texts = []
  for split in (data.reward, data.policy):
    texts += [text for record in split.preferences for text in (record.query, *record.responses)]
    texts += [text for record in split.golden for text in (record.query, record.response)]
    texts += [record.query for record in split.queries]
  texts += [text for record in data.demonstrations for text in (record.query, record.response)]
  return texts
