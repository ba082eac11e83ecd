"""All that is known to be wrong before anything is written or trained, by reading alone.

A run (`game.play`) and its preview go through the same functions, so that what one refuses the
other refuses too, in the same words.
"""

from typing import NamedTuple

import jax
import transformers

from apo_jax.config.schema import Config, MeshConfig
from apo_jax.data.records import GameData
from apo_jax.data.sources import load_data
from apo_jax.data.template_check import TemplateCheck, check_template, choose_records
from apo_jax.data.tokenised import TokenisedData, tokenise
from apo_jax.data.tokens import Codec
from apo_jax.devices.checks import check_attention, check_mesh, resolve_mesh
from apo_jax.devices.processes import of_the_first
from apo_jax.devices.sharding import tpu_slices
from apo_jax.logs.metrics import check_backends
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.branched import check_taken_over
from apo_jax.run.language_head import check_language_heads
from apo_jax.run.origins import Origins, find_origins
from apo_jax.run.ownership import check_data, check_directory, check_weights
from apo_jax.run.phase_inputs import phase_names
from apo_jax.run.positions import check_positions
from apo_jax.run.records import Damage, find_damage, find_missing, finished_phases
from apo_jax.run.repair import refuse_damage
from apo_jax.run.tokenizer import make_run_codec, make_tokenizer


class Checked(NamedTuple):
  """What a run is made of, found to fit together.

  Attributes:
    sizes: of the mesh, its -1 filled.
    origins: what the players start from.
    texts: the data.
    tokenizer: the run's own copy where its directory has one; else what is to become it.
    damage: what finished phases left and is no longer so; none unless it is to be repaired.
  """

  sizes: MeshConfig
  origins: Origins
  texts: GameData
  tokenizer: transformers.PreTrainedTokenizerBase
  damage: tuple[Damage, ...]


def check(config: Config, directory: RunDirectory, *, repair: bool = False) -> Checked:
  """Reads data, tokenizer and headers of checkpoints, and checks that all of it fits together.

  Args:
    config: the whole run.
    directory: of the run; it need not be there, and nothing is written to it.
    repair: damage is found, and not refused.

  Raises:
    ConfigError: the config does not fit the data, the devices, the packages that are installed or
      what the run directory holds, or that is damaged.
  """
  if jax.process_index() == 0:  # which alone writes metrics
    check_backends(config.logging.tensorboard, config.logging.wandb)
  check_directory(directory, config)
  sizes = resolve_mesh(config, jax.device_count(), tpu_slices(jax.devices()))
  check_attention(config, jax.devices()[0].platform)
  origins = find_origins(config)
  check_weights(directory, origins)
  check_mesh(config, origins.split_sizes(), sizes)
  check_positions(config, origins)
  check_language_heads(config, origins)
  texts = load_data(config)
  check_data(directory, texts)
  damage, listed = _find_damage(config, directory), phase_names(config)
  unfinished = listed[len(finished_phases(directory, listed)) :]
  check_taken_over(directory, config, [*unfinished, *(one.phase for one in damage)])
  if not repair:
    refuse_damage(damage)
  tokenizer = make_tokenizer(directory, config, origins, texts)
  make_run_codec(tokenizer, config, origins)  # checks that they fit
  return Checked(sizes, origins, texts, tokenizer, damage)


def _find_damage(config: Config, directory: RunDirectory) -> tuple[Damage, ...]:
  """As the first process finds it."""
  listed, found = phase_names(config), []
  if jax.process_index() == 0:
    finished = finished_phases(directory, listed)
    playing = listed[len(finished)] if len(finished) < len(listed) else None
    found = [*find_damage(directory, finished, playing), *find_missing(directory, listed)]
  if of_the_first(len(found)) and not found:
    found = [Damage(listed[0], directory.path, "is damaged, as process 0 says")]
  return tuple(found)


class AsTokens(NamedTuple):
  """The data as a run's models read it.

  Attributes:
    codec: text to token ids and back.
    data: as token ids.
    template: what the check of the chat template found.
  """

  codec: Codec
  data: TokenisedData
  template: TemplateCheck


def read_as_tokens(
  config: Config, checked: Checked, tokenizer: transformers.PreTrainedTokenizerBase
) -> AsTokens:
  """The data as ids of the copy of the tokenizer that the run reads (`shared_tokenizer`).

  Raises:
    ConfigError: the chat template refuses a query or writes other ids than a run reads, or nothing
      of a list fits the rows.
  """
  codec = make_run_codec(tokenizer, config, checked.origins)
  template = check_template(codec, choose_records(checked.texts))
  return AsTokens(codec, tokenise(codec, checked.texts), template)
