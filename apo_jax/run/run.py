"""The parts of a run that its phases read."""

import dataclasses

from jax.sharding import Mesh

from apo_jax.config.schema import Config
from apo_jax.data.tokenised import TokenisedData
from apo_jax.data.tokens import Codec
from apo_jax.logs.metrics import MetricsWriter
from apo_jax.logs.progress import Progress
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.inference import Inference, make_inference
from apo_jax.run.models import Models, make_models
from apo_jax.run.origins import Origins
from apo_jax.run.parameters import ParameterStore
from apo_jax.run.players import Players


@dataclasses.dataclass(frozen=True)
class Logs:
  """What a run says while it plays.

  Attributes:
    progress: shown to people.
    metrics: kept in files.
    is_writer: whether this process writes the run directory's files.
  """

  progress: Progress
  metrics: MetricsWriter
  is_writer: bool


@dataclasses.dataclass(frozen=True)
class Run:
  """All of a run; each part knows of those alone that it is made from.

  Attributes:
    config: the whole run.
    data: what is trained and judged on.
    codec: text to token ids and back.
    directory: where everything is written.
    players: who starts from whom.
    models: both players' models, and the mesh they lie on.
    parameters: the players' parameters, the one part that changes.
    inference: the sampler and the scorers.
    logs: what is said while it plays.
  """

  config: Config
  data: TokenisedData
  codec: Codec
  directory: RunDirectory
  players: Players
  models: Models
  parameters: ParameterStore
  inference: Inference
  logs: Logs


def make_run(
  config: Config,
  directory: RunDirectory,
  origins: Origins,
  data: TokenisedData,
  codec: Codec,
  mesh: Mesh,
  logs: Logs,
) -> Run:
  """The run that a checked config describes; the mesh is the one that is set."""
  models = make_models(config, origins, mesh)
  return Run(
    config=config,
    data=data,
    codec=codec,
    directory=directory,
    players=Players(config),
    models=models,
    parameters=ParameterStore(models, directory, park_idle_player=config.memory.park_idle_player),
    inference=make_inference(config, models, codec),
    logs=logs,
  )
