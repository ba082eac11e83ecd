"""What is asked for: the flags as one record, checked against each other before anything else."""

import dataclasses
from typing import Any

from apo_jax.config.fields import ConfigError, read_value
from apo_jax.config.folders import check_folder
from apo_jax.config.schema import SamplerConfig
from apo_jax.logs.places import find_path, find_place, resolved
from apo_jax.objectives.ranges import (
  BatchSize,
  NonNegativeFloat,
  PositiveFloat,
  PositiveInt,
  Probability,
  Samples,
  Seed,
  Tokens,
)

_RANGES = {
  "num_queries": PositiveInt,
  "batch_size": BatchSize,
  "samples": Samples,
  "max_new_tokens": Tokens,
  "seed": Seed,
  "temperature": NonNegativeFloat,
  "top_p": Probability,
}
_JUDGE_RANGES = {
  "repeats": Samples,
  "budget": PositiveInt,
  "token_budget": PositiveInt,
  "parallel": Samples,
  "timeout": PositiveFloat,
  "temperature": NonNegativeFloat,
}


@dataclasses.dataclass(frozen=True)
class JudgeRequest:
  """An LLM that judges, over an OpenAI-compatible endpoint.

  Attributes:
    model: its name there; "" asks no LLM.
    url: of the endpoint, as "https://host/v1".
    key_env: the environment variable that holds the key; "" where the endpoint wants none.
    temperature: at which it answers.
    repeats: how often a part of the items is asked, for the judge's self-consistency; 1 is once.
    budget: the most calls; None is no limit.
    token_budget: the tokens, of prompts and answers, after which nothing more is asked.
    parallel: calls at a time.
    timeout: seconds that a call may take.
  """

  model: str = ""
  url: str = ""
  key_env: str = "OPENAI_API_KEY"
  temperature: float = 0.0
  repeats: int = 1
  budget: int | None = None
  token_budget: int | None = None
  parallel: int = 8
  timeout: float = 60.0


@dataclasses.dataclass(frozen=True)
class Request:
  """What is evaluated on what; "" or None is what was not given."""

  run: str = ""
  round: int | None = None
  policy: str = ""
  reward: str = ""
  reference: str = ""
  against: str = ""
  preferences: str = ""
  queries: str = ""
  rewardbench: str = ""
  matrix: bool = False
  implicit: bool = False
  judge: JudgeRequest = JudgeRequest()
  output: str = ""
  num_queries: int | None = None
  batch_size: int | None = None
  seed: int | None = None
  samples: int | None = None
  temperature: float | None = None
  top_p: float | None = None
  max_new_tokens: int | None = None

  @property
  def has_own_data(self) -> bool:
    """Whether the run's own test side is evaluated on: where no other data is named."""
    return bool(self.run) and not (self.preferences or self.queries or self.rewardbench)

  @property
  def answers_queries(self) -> bool:
    """Whether a policy answers queries."""
    return bool(self.queries) or (self.has_own_data and not self._wants_rewards_alone)

  @property
  def _wants_rewards_alone(self) -> bool:
    return (self.matrix or self.implicit) and not (self.policy or self.against)

  @property
  def sampler_changes(self) -> dict[str, Any]:
    """Fields of a sampler that flags give."""
    given = {
      "num_samples": self.samples,
      "temperature": self.temperature,
      "top_p": self.top_p,
      "max_new_tokens": self.max_new_tokens,
    }
    return {name: value for name, value in given.items() if value is not None}

  def sampler(self, base: SamplerConfig) -> SamplerConfig:
    """The sampler of a run's evaluation, or the default, as flags change it."""
    return dataclasses.replace(base, **self.sampler_changes)


def check(request: Request) -> None:
  """Checks the flags against each other.

  Raises:
    ConfigError: for the first that does not fit, with what would.
  """
  _check_subject(request)
  _check_ranges(request)
  if request.judge.model:
    _check_judge(request)


def _check_subject(asked: Request) -> None:
  if not (asked.run or asked.policy or asked.reward or asked.judge.model):
    raise ConfigError(
      "Nothing to evaluate is named; give --run=RUN, --policy=DIR, --reward=DIR or --judge=MODEL."
    )
  if not (asked.run or asked.preferences or asked.queries or asked.rewardbench):
    raise ConfigError(
      "Nothing to evaluate on is named; give --preferences=LOCATION, --queries=LOCATION or"
      " --rewardbench=FILE, or --run=RUN for its test side."
    )
  if asked.run and not find_place(asked.run, "--run").is_dir():
    raise ConfigError(f"--run is {asked.run!r}, which is no directory; give that of a run.")
  for name in ("round", "matrix"):
    if getattr(asked, name) not in (None, False) and not asked.run:
      raise ConfigError(
        f"--{name} is {getattr(asked, name)} without --run; name the run whose rounds are meant."
      )
  if asked.policy and not (asked.queries or asked.has_own_data or asked.implicit):
    raise ConfigError(
      f"--policy is {asked.policy!r}, but no queries are named for it; give --queries=LOCATION."
    )
  if asked.queries and not (asked.policy or asked.run):
    raise ConfigError(
      f"--queries is {asked.queries!r}, but no policy is named to answer them; give --policy=DIR"
      " or --run=RUN."
    )
  if asked.against and not (asked.queries or asked.has_own_data):
    raise ConfigError(
      f"--against is {asked.against!r}, but no queries are named; give --queries=LOCATION."
    )
  needs = (("preferences", asked.preferences), ("rewardbench", asked.rewardbench))
  for name, location in needs:
    wanted = asked.run or asked.reward or (name == "preferences" and asked.judge.model)
    if location and not (wanted or (name == "preferences" and asked.implicit)):
      raise ConfigError(
        f"--{name} is {location!r}, but no reward model is named; give --reward=DIR or --run=RUN."
      )
  if asked.implicit and not (asked.preferences or asked.has_own_data):
    raise ConfigError(
      "--implicit reads preference pairs; give --preferences=LOCATION or --run=RUN."
    )
  if asked.implicit and bool(asked.reference) != bool(asked.policy):
    missing, there = ("reference", "policy") if asked.policy else ("policy", "reference")
    raise ConfigError(
      f"--implicit compares a policy with its reference; --{there} is {getattr(asked, there)!r},"
      f" so give --{missing}=DIR too."
    )
  if asked.implicit and not (asked.policy or asked.run):
    raise ConfigError("--implicit needs a policy; give --run=RUN, or --policy=DIR --reference=DIR.")
  if asked.reference and not asked.implicit:
    raise ConfigError(f"--reference is {asked.reference!r}, which is read with --implicit alone.")


def _check_ranges(asked: Request) -> None:
  for name, hint in _RANGES.items():
    value = getattr(asked, name)
    if value is not None:
      read_value(hint, value, f"--{name}")
  output = find_path(asked.output, "--output")
  if asked.output:
    check_folder("--output", output)
  output = output.resolve()
  run = find_place(asked.run, "--run") if asked.run else None
  if run and asked.output and resolved(run) in (output, *output.parents):
    raise ConfigError(
      f"--output is {asked.output!r}, which lies in the run; a run is only read, so give another"
      " directory."
    )


def _check_judge(asked: Request) -> None:
  judge = asked.judge
  if not judge.url.startswith(("http://", "https://")) or "@" in judge.url or "?" in judge.url:
    # A key in an address would be written into results.
    shown = judge.url if "@" not in judge.url and "?" not in judge.url else "an address with more"
    raise ConfigError(
      f"--judge_url is {shown!r}; it must be the address of an OpenAI-compatible endpoint alone,"
      " as 'https://host/v1', the key in the environment (--judge_key_env)."
    )
  for name, hint in _JUDGE_RANGES.items():
    value = getattr(judge, name)
    if value is not None:
      read_value(hint, value, f"--judge_{name}")
  if not (asked.preferences or asked.against or asked.has_own_data):
    raise ConfigError(
      f"--judge is {judge.model!r}, but there is nothing to compare; give --against beside"
      " --queries, or --preferences."
    )
