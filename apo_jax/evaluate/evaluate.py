"""An evaluation from its flags to its files: all is found, then computed, then told."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import SamplerConfig
from apo_jax.evaluate import data
from apo_jax.evaluate.implicit import Values, implicit_section
from apo_jax.evaluate.matrix import matrix_sections, pairs_of_rounds, reward_models
from apo_jax.evaluate.models import OpenedRun, Source, open_run
from apo_jax.evaluate.named import named_source, split_run
from apo_jax.evaluate.policies import (
  Answered,
  golden_answers,
  items_of,
  policy_section,
  sample,
)
from apo_jax.evaluate.preferences import reward_section
from apo_jax.evaluate.reading import lengths_in_tokens, logprobs_of, rewards_of
from apo_jax.evaluate.request import Request, check
from apo_jax.evaluate.rewardbench import Bench, bench_section, read_bench
from apo_jax.evaluate.section import Section, write_sections
from apo_jax.run.opening import mesh_for
from apo_jax.run.players import Players

GOLDEN = "golden"
_USUAL_BATCH_SIZE = 32

Say = Callable[[str], None]


class _Found(NamedTuple):
  """All that an evaluation reads, found before any weights are.

  Attributes:
    rewards: the reward models to be judged by preferences, by their sections' names.
    judge: the reward model that judges answers.
    policy: whose answers are judged.
    opponent: the policy they are judged against, or the answers of a file, or the golden ones.
    reference: of the policy's implicit reward.
    matrix: reward models of rounds, for the matrix.
  """

  run: OpenedRun | None
  preferences: data.Preferences | None
  queries: data.Queries | None
  bench: Bench | None
  rewards: dict[str, Source]
  judge: Source | None
  policy: Source | None
  opponent: Source | Answered | None
  reference: Source | None
  matrix: dict[str, Source]
  sampler: SamplerConfig

  def sources(self) -> list[Source]:
    """Every model."""
    others = (self.judge, self.policy, self.opponent, self.reference)
    return [
      *self.rewards.values(),
      *self.matrix.values(),
      *(one for one in others if isinstance(one, Source)),
    ]


def evaluate(asked: Request, say: Say = lambda line: None) -> tuple[str, Path]:
  """Evaluates what is asked for; returns the table of the results and their directory.

  With several processes every one calls this, and the first writes.

  Raises:
    ConfigError: what is asked for does not fit together, or is not there; found before any work is
      done, but for numbers that a model gives and that are none.
  """
  check(asked)
  found = _find(asked)
  output = _output(asked)
  models = found.sources()
  mesh = mesh_for([source.architecture for source in models])
  with jax.set_mesh(mesh):
    given, sections = _rewards(asked, found, mesh, say)
    sections += _implicit(asked, found, given.get("reward"), mesh, say)
    sections += _matrix(asked, found, mesh, say)
    sections += _policy(asked, found, mesh, say)
  if jax.process_index() != 0:
    return "", output
  return write_sections(output, dataclasses.asdict(asked), sections), output


def _find(asked: Request) -> _Found:
  run = open_run(Path(asked.run), "--run") if asked.run else None
  sampler = asked.sampler(run.config.sampling.evaluation if run else SamplerConfig())
  preferences = queries = bench = None
  if run is not None and asked.has_own_data:
    preferences, queries = data.own_test_side(run, asked.num_queries)
  if asked.preferences:
    preferences = data.read_preferences(asked.preferences, asked.num_queries)
  if asked.queries:
    with_golden = asked.against == GOLDEN
    queries = data.read_queries(asked.queries, asked.num_queries, with_golden=with_golden)
  if asked.rewardbench:
    bench = read_bench(asked.rewardbench)
  if not asked.answers_queries:
    queries = None
  rewards: dict[str, Source] = {}
  judge = policy = reference = None
  if asked.reward:
    judge = named_source(asked.reward, "--reward", "reward", sampler)
    rewards = {"reward": judge}
  elif run is not None:
    judge = run.source("testing_reward", None)
    rewards = {"reward": run.source("reward", asked.round), "testing_reward": judge}
  if asked.policy:
    policy = named_source(asked.policy, "--policy", "policy", sampler)
  elif run is not None and (queries is not None or asked.implicit):
    policy = run.source("policy", asked.round)
  if asked.implicit:
    reference = _reference(asked, run, sampler)
  return _Found(
    run=run,
    preferences=preferences,
    queries=queries,
    bench=bench,
    rewards=rewards if preferences is not None or bench is not None else {},
    judge=judge if queries is not None else None,
    policy=policy,
    opponent=None if queries is None else _opponent(asked, queries, sampler),
    reference=reference,
    matrix={} if run is None or not asked.matrix else reward_models(run, asked.round),
    sampler=sampler,
  )


def _reference(asked: Request, run: OpenedRun | None, sampler: SamplerConfig) -> Source:
  if asked.reference:
    return named_source(asked.reference, "--reference", "policy", sampler)
  assert run is not None  # `check` asks for one of both
  round, _ = run.find("policy", asked.round)
  if round == 0:
    raise ConfigError("--round is 0, whose policy has no reference; --implicit needs a later one.")
  player = Players(run.config).reference(round)
  _, kept = run.find("policy", player.round)
  return run.source_of(kept, f"{run.name}, reference of round {round}")


def _opponent(
  asked: Request, queries: data.Queries, sampler: SamplerConfig
) -> Source | Answered | None:
  """What --against names; a run's own test side has golden responses where it names nothing."""
  name = asked.against or (GOLDEN if asked.has_own_data else "")
  if not name:
    return None
  if name == GOLDEN:
    return golden_answers(queries)
  is_model = split_run(name) is not None or Path(name).is_dir()
  if is_model or not (Path(name).exists() or "://" in name or name.endswith((".json", ".jsonl"))):
    return named_source(name, "--against", "policy", sampler)
  answers = data.read_answers(name, queries.records)
  return Answered(name, [() if one is None else (one,) for one in answers])


def _rewards(
  asked: Request, found: _Found, mesh: Mesh, say: Say
) -> tuple[dict[str, Values], list[Section]]:
  """Every reward model on preferences and on RewardBench's rows; its weights are read once.

  Returns:
    The rewards of preferences by the models' names in `found`, and the sections.
  """
  of_preferences: dict[str, Values] = {}
  sections = []
  for key, source in found.rewards.items():
    items = found.preferences.items if found.preferences is not None else []
    rows = [row.item for row in found.bench.rows] if found.bench is not None else []
    say(f"{source.name}: {len(items) + len(rows):,} queries with responses to score")
    rewards = rewards_of(source, mesh, [*items, *rows], asked.batch_size or _USUAL_BATCH_SIZE)
    if found.preferences is not None:
      given = of_preferences[key] = rewards[: len(items)]
      sections.append(reward_section(f"preferences_{key}", source.name, found.preferences, given))
    if found.bench is not None:
      given = rewards[len(items) :]
      sections.append(bench_section(f"rewardbench_{key}", source.name, found.bench, given))
  return of_preferences, sections


def _implicit(
  asked: Request, found: _Found, explicit: Values | None, mesh: Mesh, say: Say
) -> list[Section]:
  policy, reference = found.policy, found.reference
  if policy is None or reference is None or found.preferences is None:
    return []
  items, size = found.preferences.items, asked.batch_size or _USUAL_BATCH_SIZE
  say(f"{policy.name} and {reference.name}: log-probabilities of {len(items):,} preferences")
  return [
    implicit_section(
      f"{policy.name} to {reference.name}",
      found.preferences,
      logprobs_of(policy, mesh, items, size),
      logprobs_of(reference, mesh, items, size),
      lengths_in_tokens(policy, items),
      explicit,
      None if explicit is None else found.rewards["reward"].name,
    )
  ]


def _matrix(asked: Request, found: _Found, mesh: Mesh, say: Say) -> list[Section]:
  if not found.matrix or found.run is None:
    return []
  pairs = pairs_of_rounds(found.run, asked.round, asked.num_queries)
  say(f"{len(found.matrix)} reward models on the pairs of {len(pairs)} rounds")
  size = asked.batch_size or _USUAL_BATCH_SIZE
  return matrix_sections(found.matrix, mesh, pairs, found.preferences, found.run, size)


def _policy(asked: Request, found: _Found, mesh: Mesh, say: Say) -> list[Section]:
  queries, policy = found.queries, found.policy
  if queries is None or policy is None:
    return []
  ours, theirs = _answers(asked, found, mesh, say)
  rewards = None
  if found.judge is not None:
    items = items_of(queries, ours, *([] if theirs is None else [theirs]))
    rewards = rewards_of(found.judge, mesh, items, asked.batch_size or _USUAL_BATCH_SIZE)
  judge = None if found.judge is None else found.judge.name
  return [policy_section(queries, ours, theirs, rewards, judge)]


def _answers(
  asked: Request, found: _Found, mesh: Mesh, say: Say
) -> tuple[Answered, Answered | None]:
  """The policy's answers, and its opponent's."""
  queries = found.queries
  assert queries is not None and found.policy is not None
  settings: dict[str, Any] = {
    "seed": asked.seed if asked.seed is not None else (found.run.config.seed if found.run else 0),
    "batch_size": asked.batch_size or _USUAL_BATCH_SIZE,
  }
  say(f"{found.policy.name}: {len(queries.records):,} queries to answer")
  ours = sample(found.policy, mesh, queries.records, found.sampler, **settings)
  if not isinstance(found.opponent, Source):
    return ours, found.opponent
  say(f"{found.opponent.name}: {len(queries.records):,} queries to answer")
  return ours, sample(found.opponent, mesh, queries.records, found.sampler, **settings)


def _output(asked: Request) -> Path:
  """The directory of the results, made; the same request has the same by default.

  Raises:
    ConfigError: it lies in the run, which is only read, or cannot be made.
  """
  output = Path(asked.output or f"runs/evaluations/{_name(asked)}")
  if asked.run and Path(asked.run).resolve() in (output.resolve(), *output.resolve().parents):
    raise ConfigError(
      f"--output is {str(output)!r}, which lies in the run; a run is only read, so give another"
      " directory."
    )
  try:
    output.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ConfigError(f"--output is {str(output)!r}, which cannot be made: {error}.") from error
  return output


def _name(asked: Request) -> str:
  """What is evaluated, and a short hash of the whole request."""
  subject = asked.policy or asked.run or asked.reward or asked.judge.model
  given = json.dumps(dataclasses.asdict(asked), sort_keys=True)
  digest = hashlib.sha256(given.encode()).hexdigest()[:8]
  stem = Path(subject).absolute().name if Path(subject).exists() else subject.replace("/", "-")
  return f"{stem}-{digest}"
