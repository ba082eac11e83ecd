"""An evaluation from its flags to its files: all is found, then computed, then told."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import SamplerConfig
from apo_jax.devices.processes import barrier
from apo_jax.evaluate import data
from apo_jax.evaluate.implicit import Values, implicit_section, ranking_section
from apo_jax.evaluate.judge.endpoint import Endpoint
from apo_jax.evaluate.judge.prompt import Comparison
from apo_jax.evaluate.judge.section import judge_section, of_preference
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
from apo_jax.logs.places import find_path, find_place
from apo_jax.run.opening import mesh_for
from apo_jax.run.players import Players

GOLDEN = "golden"
_USUAL_BATCH_SIZE = 32
# What --against names is a file, though maybe none that is there, not a model of the hub.
_FILE_SUFFIXES = (".json", ".jsonl", ".parquet", ".gz", ".zst")

Say = Callable[[str], None]


class _Found(NamedTuple):
  """All that an evaluation reads, found before any weights are.

  Attributes:
    endpoint: where an LLM judge is asked.
    rewards: the reward models to be judged by preferences, by their sections' names.
    judge: the reward model that judges answers.
    policy: whose answers are judged.
    opponent: the policy they are judged against, or the answers of a file, or the golden ones.
    reference: of the policy's implicit reward.
    matrix: reward models of rounds, for the matrix.
  """

  run: OpenedRun | None
  endpoint: Endpoint | None
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


def evaluate(asked: Request, say: Say = lambda line: None) -> Path:
  """Evaluates what is asked for, shows the results and returns the directory they are in.

  With several processes every one calls this, and the first writes.

  Raises:
    ConfigError: what is asked for does not fit together, or is not there; found before any work is
      done. Later, where a model gives what is no number, or a judge no verdict at all.
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
    answered = None
    if found.queries is not None and found.policy is not None:
      answered = _answers(asked, found, mesh, say)
      sections += _policy(asked, found, answered, mesh, say)
  if jax.process_index() == 0:
    record = dataclasses.asdict(asked)
    _tell(output, record, sections, sections, say)
    if found.endpoint is not None:
      # Behind all else, and each written as it is there: an endpoint may fail.
      for one in _judge(asked, found, answered, output, say):
        sections.append(one)
        _tell(output, record, sections, [one], say)
  barrier("evaluation")
  return output


def _tell(
  output: Path,
  record: dict[str, Any],
  sections: Sequence[Section],
  new: Sequence[Section],
  say: Say,
) -> None:
  """Writes all sections and shows the new ones."""
  write_sections(output, record, sections)
  for section in new:
    say(f"\n{section.text()}")


def _find(asked: Request) -> _Found:
  run = open_run(find_place(asked.run, "--run"), "--run") if asked.run else None
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
  asks_here = asked.judge.model and jax.process_index() == 0
  return _Found(
    run=run,
    endpoint=Endpoint(asked.judge) if asks_here else None,
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
  is_file = Path(name).is_file() or "://" in name or name.endswith(_FILE_SUFFIXES)
  if split_run(name) is not None or not is_file:
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


def _policy(
  asked: Request,
  found: _Found,
  answered: tuple[Answered, Answered | None],
  mesh: Mesh,
  say: Say,
) -> list[Section]:
  """The policy's answers, and whether the policy orders them as the judge does."""
  (ours, theirs), queries, judge = answered, found.queries, found.judge
  assert queries is not None  # else nothing was answered
  if judge is None:
    return [policy_section(queries, ours, theirs, None, None)]
  items = items_of(queries, ours, *([] if theirs is None else [theirs]))
  size = asked.batch_size or _USUAL_BATCH_SIZE
  rewards = rewards_of(judge, mesh, items, size)
  sections = [policy_section(queries, ours, theirs, rewards, judge.name)]
  policy, reference = found.policy, found.reference
  if policy is not None and reference is not None:
    say(f"{policy.name} and {reference.name}: log-probabilities of {len(items):,} queries' answers")
    logprobs = [logprobs_of(one, mesh, items, size) for one in (policy, reference)]
    name = f"{policy.name} to {reference.name}"
    sections.append(ranking_section(name, queries, items, *logprobs, rewards, judge.name))
  return sections


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


def _judge(
  asked: Request,
  found: _Found,
  answered: tuple[Answered, Answered | None] | None,
  output: Path,
  say: Say,
) -> Iterator[Section]:
  """What an LLM says of the preferences, and of the policy's answers beside its opponent's."""
  if found.endpoint is None:
    return
  if found.preferences is not None:
    records = found.preferences.records
    comparisons = [of_preference(record) for record in records]
    about = f"preferred responses of {found.preferences.name} against others"
    say(f"{asked.judge.model}: {len(comparisons):,} preferences to judge")
    yield judge_section(
      "judge_preferences",
      about,
      comparisons,
      asked.judge,
      found.endpoint,
      output,
      of_people=True,
    )
  if answered is not None and answered[1] is not None and found.queries is not None:
    ours, theirs = answered
    comparisons = [
      Comparison(record.query_id, record.query, one[0].text, other[0].text)
      for record, one, other in zip(
        found.queries.records, ours.answers, theirs.answers, strict=True
      )
      if one and other
    ]
    say(f"{asked.judge.model}: {len(comparisons):,} pairs of answers to judge")
    yield judge_section(
      "judge_policy",
      f"{ours.name} against {theirs.name}",
      comparisons,
      asked.judge,
      found.endpoint,
      output,
      of_people=False,
    )


def _output(asked: Request) -> Path:
  """The directory of the results, made; the same request has the same by default.

  Raises:
    ConfigError: it cannot be made.
  """
  output = find_path(asked.output or f"runs/evaluations/{_name(asked)}", "--output")
  try:
    output.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ConfigError(f"--output is {str(output)!r}, which cannot be made: {error}.") from error
  return output


def _name(asked: Request) -> str:
  """What is evaluated, and a short hash of the whole request."""
  subject = asked.policy or asked.run or asked.reward or asked.judge.model
  # How fast and how far a judge is asked makes no other evaluation of it.
  fixed = {"budget": None, "token_budget": None, "parallel": 1, "timeout": 60.0, "key_env": ""}
  same = dataclasses.replace(asked, judge=dataclasses.replace(asked.judge, **fixed))
  given = json.dumps(dataclasses.asdict(same), sort_keys=True)
  digest = hashlib.sha256(given.encode()).hexdigest()[:8]
  stem = (
    Path(subject).absolute().name
    if Path(subject).exists()
    else subject.replace("/", "-").replace(":", "-")
  )
  return f"{stem}-{digest}"
