"""From what a flag names to a model: a run's player, as RUN or RUN:ROUND, or a checkpoint."""

import re
from pathlib import Path
from typing import Literal

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import SamplerConfig
from apo_jax.evaluate.models import (
  OpenedRun,
  Source,
  checkpoint_policy,
  checkpoint_reward,
  is_run,
  open_run,
)
from apo_jax.logs.places import Place, find_place, is_bucket

_RUN_AND_ROUND = re.compile(r"(.+):(\d+)")


def split_run(name: str) -> tuple[Place, int | None] | None:
  """The run directory and the round in RUN or RUN:ROUND; None where it names no run."""
  if is_run(_place(name)):
    return _place(name), None
  found = _RUN_AND_ROUND.fullmatch(name)
  if found and is_run(_place(found[1])):
    return _place(found[1]), int(found[2])
  return None


def named_source(
  name: str, flag: str, kind: Literal["policy", "reward"], sampler: SamplerConfig
) -> Source:
  """The policy or reward model of a run's round, of a directory or of the hub.

  Args:
    name: what the flag says.
    flag: for errors.
    kind: which of both is wanted.
    sampler: by which a checkpoint's policy will answer.

  Raises:
    ConfigError: there is no such model.
  """
  found = split_run(name)
  if found is None:
    if kind == "policy":
      return checkpoint_policy(name, flag, sampler)
    return checkpoint_reward(name, flag)
  return _open(found[0], flag).source(kind, found[1])


def _place(name: str) -> Place:
  # What is no path, such as a name of the hub, is a directory that is not there.
  return find_place(name, "the model") if is_bucket(name) else Path(name)


def _open(path: Place, flag: str) -> OpenedRun:
  try:
    return open_run(path, flag)
  except FileNotFoundError as error:
    raise ConfigError(f"{flag} is {str(path)!r}, which is no whole run: {error}.") from error
