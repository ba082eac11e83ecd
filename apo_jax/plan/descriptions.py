"""What a plan takes in the place of weights, data and a tokenizer."""

from pathlib import Path

import huggingface_hub
import ml_collections
import tokenizers
import transformers
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from apo_jax.config.checks import from_config_dict
from apo_jax.config.fields import ConfigError
from apo_jax.config.lengths import judged_length
from apo_jax.config.schema import Config
from apo_jax.data.templates import HhForm
from apo_jax.data.tokens import Codec
from apo_jax.models.architecture import Architecture
from apo_jax.models.hugging_face.checkpoint import CONFIG_FILE, Checkpoint
from apo_jax.models.hugging_face.config import read_architecture

_LOCATIONS = ("demonstrations", "preferences", "golden", "queries")


def config_without_data(config: ml_collections.ConfigDict) -> Config:
  """The validated config; files of data need not exist, as nothing reads them.

  Raises:
    ConfigError: as `from_config_dict`, for everything else.
  """
  copied = ml_collections.ConfigDict(config.to_dict())
  data = copied.get("data")
  for name in _LOCATIONS if isinstance(data, ml_collections.ConfigDict) else ():
    if data.get(name):
      data[name] = f"unread://{name}"  # a location that is not looked for on this machine
  return from_config_dict(copied)


def describe_codec(config: Config, architecture: Architecture) -> Codec:
  """A codec of the model's size that has one word: shapes depend on nothing else."""
  words = tokenizers.models.WordLevel({"?": 0}, unk_token="?")
  tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(words))
  form = HhForm(tokenizer, bos=None, separator=None, eos=0)
  data = config.data
  return Codec(
    tokenizer,
    form,
    data.query_length,
    data.row_length,
    judged_length(config),
    size=architecture.vocab_size,
    ends=frozenset({form.eos}),
    never_drawn=frozenset(),
  )


def read_described(field: str, name: str, config: Config) -> Checkpoint:
  """A checkpoint by its config.json alone: no weights are needed or downloaded.

  Args:
    field: of the config that names it.
    name: a directory with a config.json, or a name on the Hugging Face hub.
    config: the run's.

  Raises:
    ConfigError: there is no such file, or it is of no model that the decoder computes.
  """
  return read_architecture(_described(name, field), config.model, field, _described)


def _described(name: str, field: str) -> Path:
  """Where a checkpoint's config.json is; the hub gives that file alone."""
  if Path(name).is_dir():
    return Path(name)
  try:
    return Path(huggingface_hub.hf_hub_download(name, CONFIG_FILE)).parent
  except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
    raise ConfigError(
      f"{field} is {name!r}, whose {CONFIG_FILE} cannot be had; for a plan it must be a directory"
      f" with one, such as configs/shapes/llama_7b, or the name of a model on the hub."
    ) from error
