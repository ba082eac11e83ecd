"""All that is known of a run before it trains: found by the run's own checks, told as text."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from apo_jax.config.fields import ConfigError
from apo_jax.config.folders import check_folder
from apo_jax.config.schema import Config
from apo_jax.data.token_listing import list_tokens
from apo_jax.devices.sharding import make_mesh
from apo_jax.logs import files
from apo_jax.logs.places import Place, find_path
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.preview import text
from apo_jax.preview.histogram import WIDTH
from apo_jax.preview.lengths import lengths_of
from apo_jax.preview.memory import memory_of
from apo_jax.run.checking import check, read_as_tokens
from apo_jax.run.data_description import describe_data, examples
from apo_jax.run.judge import describe_judge, judge_facts
from apo_jax.run.models import make_models
from apo_jax.run.starts import describe_sharing
from apo_jax.run.tokenizer import shared_tokenizer

# Tokens of a sequence that an example shows.
_SHOWN_TOKENS = 160


class Preview(NamedTuple):
  """What is known of a run.

  Attributes:
    data: what the run's data.json holds.
    text: all of it for people.
  """

  data: Mapping[str, Any]
  text: str


def preview(config: Config, config_file: str, run_dir: Place) -> Preview:
  """What is known of a run before it trains; nothing is written.

  Args:
    config: the whole run.
    config_file: its name, for people.
    run_dir: where the run would be kept, or is.

  Raises:
    ConfigError: the run would be refused.
  """
  directory = RunDirectory(run_dir)
  checked = check(config, directory)
  # A run reads its tokenizer from its directory; so does this, from one that goes again.
  with (
    tempfile.TemporaryDirectory() as place,
    shared_tokenizer(RunDirectory(Path(place)), checked.tokenizer) as tokenizer,
  ):
    codec, data, template = read_as_tokens(config, checked, tokenizer)
  described = describe_data(checked.texts, data)
  mesh = make_mesh(checked.sizes)
  with jax.set_mesh(mesh):
    models = make_models(config, checked.origins, mesh)
    memory = memory_of(config, models)
  sharing = describe_sharing(models.origins, models.policy, models.reward, models.testing_reward)
  judge = describe_judge(judge_facts(config, models, data))
  limit = (mesh.devices.flat[0].memory_stats() or {}).get("bytes_limit")
  listing = list_tokens(codec, examples(data), width=WIDTH, most_tokens=_SHOWN_TOKENS)
  sections = [
    text.section("Run", text.title_of(config_file, run_dir, directory.config.exists())),
    text.section("Sources", text.sources(checked.texts.reports)),
    text.section("Splits", text.splits(described)),
    text.section("Lengths", text.lengths(lengths_of(codec, checked.texts), config, codec)),
    text.section("Chat template", text.template(config.data.chat_template, codec, template)),
    text.section("Models", text.models(models, memory, [*filter(None, [sharing, judge])], limit)),
    f"{text.section('Examples', [])}\n{listing}",
  ]
  return Preview(described, "\n\n".join(one.strip("\n") for one in sections) + "\n")


def check_output(output: str) -> None:
  """Checks that `--output` can be a directory.

  Raises:
    ConfigError: it cannot.
  """
  check_folder("--output", find_path(output, "--output"))


def write(found: Preview, output: Path) -> None:
  """Writes data.json and preview.txt to a directory.

  Raises:
    ConfigError: it cannot be written.
  """
  place = RunDirectory(output)
  try:
    files.write_json(place.data, found.data)
    files.write_text(place.preview, found.text)
  except OSError as error:
    raise ConfigError(f"--output is {str(output)!r}, which cannot be written: {error}.") from error
