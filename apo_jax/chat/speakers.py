"""Who answers: rounds of a run or a checkpoint, with the reward models that rate them."""

import dataclasses
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from apo_jax.chat.compiled import Answering, Rating, Say
from apo_jax.chat.request import Request
from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import SamplerConfig
from apo_jax.data.templates import HhForm
from apo_jax.data.tokens import Codec
from apo_jax.evaluate.models import OpenedRun, Source, open_run
from apo_jax.evaluate.named import named_source
from apo_jax.evaluate.reading import Answer
from apo_jax.logs.places import find_place
from apo_jax.models.definition import Parameters
from apo_jax.run.models import make_models
from apo_jax.run.opening import mesh_for
from apo_jax.run.parameters import ParameterStore
from apo_jax.run.players import Player

_NEXT_TURN = "\n\nHuman:"  # what a model without a chat template may go on with


@dataclasses.dataclass(frozen=True, eq=False)
class Speaker:
  """A policy that answers.

  Attributes:
    name: what it is called.
    codec: how it reads text.
    sampler: how it answers, its temperature aside.
    parameters: its own.
    answering: draws its answers (`compiled.Answering`).
  """

  name: str
  codec: Codec
  sampler: SamplerConfig
  parameters: Parameters
  answering: Callable[..., Answer]


@dataclasses.dataclass(frozen=True, eq=False)
class Rater:
  """A reward model that rates answers."""

  name: str
  parameters: Parameters
  rating: Rating


@dataclasses.dataclass(frozen=True, eq=False)
class Company:
  """Who takes part in a chat.

  Attributes:
    mesh: where all of them are.
    speakers: one, or two that are compared.
    raters: who rates every answer; none where no reward model is there.
  """

  mesh: Mesh
  speakers: tuple[Speaker, ...]
  raters: tuple[Rater, ...]


def gather(asked: Request, say: Say) -> Company:
  """Loads the models that are asked for, all checks first.

  Raises:
    ConfigError: one of them is not there, or no longer.
  """
  if asked.run:
    return _of_a_run(asked, say)
  sampler = SamplerConfig()
  if asked.max_new_tokens is not None:
    sampler = dataclasses.replace(sampler, max_new_tokens=asked.max_new_tokens)
  policy = named_source(asked.policy, "--policy", "policy", sampler)
  rewarding = _given_rater(asked)
  mesh = mesh_for([one.architecture for one in (policy, rewarding) if one is not None])
  _check_room(policy.codec, sampler)
  with jax.set_mesh(mesh):
    definition, parameters = policy.load(mesh)
    answering = Answering(definition, policy.codec, mesh, say)
    speaker = Speaker(policy.name, policy.codec, _stopped(sampler, policy), parameters, answering)
    raters = () if rewarding is None else (_loaded(rewarding, mesh),)
  return Company(mesh, (speaker,), raters)


def _of_a_run(asked: Request, say: Say) -> Company:
  """Rounds of a run: their policies are of one model, and so are their reward models."""
  opened = _opened(asked.run)
  flag = "--compare" if asked.compare else "--round"
  policies = [opened.find("policy", round, flag) for round in asked.rounds]
  given = _given_rater(asked)
  rewards = [] if given else [opened.find("reward", round, flag) for round, _ in policies]
  config, codec = opened.config, opened.codec
  sampler = dataclasses.replace(config.sampling.evaluation, num_samples=1)
  if asked.max_new_tokens is not None:
    sampler = dataclasses.replace(sampler, max_new_tokens=asked.max_new_tokens)
  _check_room(codec, sampler)
  origins = opened.origins
  shapes = [origins.policy, origins.reward if given is None else given.architecture]
  mesh = mesh_for(shapes)
  with jax.set_mesh(mesh):
    models = make_models(config, origins, mesh)
    store = ParameterStore(models, opened.directory, park_idle_player=False)
    answering = Answering(models.policy, codec, mesh, say)
    speakers = tuple(
      Speaker(f"round {round}", codec, sampler, store.of(player), answering)
      for round, player in policies
    )
    if given is not None:
      return Company(mesh, speakers, (_loaded(given, mesh),))
    rating = Rating(models.reward, opened.source_of(rewards[0][1], "the run's"), mesh)
    # A reward model that stays fixed is one for all rounds.
    names = _names(rewards)
    raters = tuple(Rater(name, store.of(player), rating) for player, name in names.items())
  return Company(mesh, speakers, raters)


def _names(rewards: list[tuple[int, Player]]) -> dict[Player, str]:
  """What each reward model is called: by the rounds that it is of."""
  rounds: dict[Player, list[str]] = {}
  for round, player in rewards:
    rounds.setdefault(player, []).append(str(round))
  return {
    player: f"round{'s' if len(of) > 1 else ''} {' and '.join(of)}" for player, of in rounds.items()
  }


def _opened(run: str) -> OpenedRun:
  try:
    return open_run(find_place(run, "--run"), "--run")
  except FileNotFoundError as error:
    raise ConfigError(f"--run is {run!r}, which is no whole run: {error}.") from error


def _given_rater(asked: Request) -> Source | None:
  if not asked.reward_model:
    return None
  return named_source(asked.reward_model, "--reward_model", "reward", SamplerConfig())


def _loaded(source: Source, mesh: Mesh) -> Rater:
  definition, parameters = source.load(mesh)
  return Rater(source.name, parameters, Rating(definition, source, mesh))


def _stopped(sampler: SamplerConfig, source: Source) -> SamplerConfig:
  """The sampler, with the end that a model without a chat template may write in letters alone."""
  if not isinstance(source.codec.form, HhForm):
    return sampler
  return dataclasses.replace(sampler, stop=(_NEXT_TURN,))


def _check_room(codec: Codec, sampler: SamplerConfig) -> None:
  """Checks that an answer to the longest query fits the rows in which it is rated."""
  room = codec.judged_length - codec.query_length - 1
  if sampler.max_new_tokens > room:
    raise ConfigError(
      f"--max_new_tokens is {sampler.max_new_tokens}; the model's rows have room for {room} behind"
      " a query."
    )
