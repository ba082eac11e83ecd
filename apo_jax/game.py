"""The game: a list of phases, each writing its result to the run directory.

A phase whose result is there is not played again, so starting the same command again continues
where it stopped. Within a training phase, checkpoints do the same for single updates.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from apo_jax.config.schema import Config, to_dict
from apo_jax.data.records import GameData
from apo_jax.data.sources import load_data
from apo_jax.data.tokens import Codec, make_codec
from apo_jax.devices.checks import check_attention, check_mesh, resolve_mesh
from apo_jax.devices.sharding import make_mesh, tpu_slices
from apo_jax.logs import files
from apo_jax.logs.metrics import MetricsWriter
from apo_jax.logs.progress import Progress
from apo_jax.phases.evaluation import evaluate
from apo_jax.phases.sampling import (
  sample_golden_queries,
  sample_policy_queries,
  score_samples,
)
from apo_jax.phases.training import (
  train_policy,
  train_reward,
  train_reward_base,
  train_supervised,
  train_testing_reward,
)
from apo_jax.report.page import write_report
from apo_jax.run.context import RunContext
from apo_jax.run.directory import (
  barrier,
  check_owner,
  claim,
  drop_old_checkpoints,
  make_tokenizer,
  write_provenance,
)
from apo_jax.run.origins import Origins, find_origins
from apo_jax.run.starts import describe, describe_sharing

EVALUATION = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class Phase:
  """A phase of the game.

  Attributes:
    round: the round; 0 for what comes before the first.
    result: the file in the round's directory that says the phase is finished.
    play: plays it.
  """

  round: int
  result: str
  play: Callable[[RunContext], None]


def phases(config: Config) -> list[Phase]:
  """The whole game, in order."""
  listed = [
    Phase(0, "supervised.json", train_supervised),
    Phase(0, "reward_base.json", train_reward_base),
    Phase(0, "testing_reward.json", train_testing_reward),
    Phase(0, EVALUATION, functools.partial(evaluate, round=0)),
  ]
  for round in range(1, config.rounds + 1):
    steps: list[tuple[str, Callable[..., None]]] = []
    if config.reward.update == "adversarial":
      steps.append(("golden_samples.jsonl", sample_golden_queries))
    if config.reward.update != "fixed":
      steps.append(("reward.json", train_reward))
    steps += [
      ("policy_samples.jsonl", sample_policy_queries),
      ("score.json", score_samples),
      ("policy.json", train_policy),
      (EVALUATION, evaluate),
    ]
    listed += [Phase(round, name, functools.partial(play, round=round)) for name, play in steps]
  return listed


def play(
  config: Config,
  run_dir: Path,
  *,
  on_phase_end: Callable[[Phase], None] = lambda phase: None,
) -> Path:
  """Plays the game, or what is left of it, and returns the path of its report.

  With several processes, every one calls this, and the run directory is on storage they share.

  Args:
    config: the whole run.
    run_dir: where everything is written.
    on_phase_end: called after each phase that was played.

  Raises:
    ConfigError: the config does not fit the data, the devices or what the run directory holds;
      raised before any work is done.
  """
  sizes = resolve_mesh(config, jax.device_count(), tpu_slices(jax.devices()))
  check_attention(config, jax.devices()[0].platform)
  origins = find_origins(config)
  check_mesh(config, origins.split_sizes(), sizes)
  data = load_data(config)
  check_owner(run_dir, config, origins, data)
  codec = _codec(config, run_dir, origins, data)  # checks that they fit
  is_writer = jax.process_index() == 0
  writer = MetricsWriter(
    run_dir,
    tensorboard=config.logging.tensorboard,
    wandb=config.logging.wandb,
    wandb_project=config.logging.wandb_project,
    config=to_dict(config),
    enabled=is_writer,
  )
  claim(run_dir, config, origins, data, codec)
  codec = _codec(config, run_dir, origins, data)  # of the copy that all processes share
  mesh = make_mesh(sizes)
  with jax.set_mesh(mesh), writer:
    run = RunContext(config, run_dir, mesh, origins, data, codec, Progress(is_writer), writer)
    _introduce(run)
    for phase in _unfinished(run, phases(config)):
      if phase.round:
        write_provenance(run, phase.round)
      phase.play(run)
      barrier(f"{phase.round} {phase.result}")
      if phase.result == EVALUATION and phase.round < config.rounds and is_writer:
        write_report(run_dir)
      drop_old_checkpoints(run, phase.round - (phase.result != EVALUATION))
      on_phase_end(phase)
    if is_writer:
      # Also where nothing was left to play: a run may have been stopped just before its report.
      write_report(run_dir)
      evaluations = [run.round_dir(round) / EVALUATION for round in range(config.rounds + 1)]
      run.progress.message("")
      run.progress.table(map(files.read_json, evaluations))
  return run_dir / "report.html"


def _codec(config: Config, run_dir: Path, origins: Origins, data: GameData) -> Codec:
  tokenizer = make_tokenizer(run_dir, config, origins, data)
  # Both players read the ids.
  vocab_size = min(origins.policy.vocab_size, origins.reward.vocab_size)
  return make_codec(tokenizer, config, vocab_size)


def _introduce(run: RunContext) -> None:
  """Says what the run is made of."""
  if not run.is_writer:
    return
  for report in run.data.reports:
    run.progress.message(report.sentence())
  for name, counts in files.read_json(run.run_dir / "data.json")["truncated"].items():
    if counts["cut_queries"] or counts["cut_responses"]:
      run.progress.message(
        f"{name}: {counts['cut_queries']} of {counts['queries']} queries lose their left, "
        f"{counts['cut_responses']} of {counts['responses']} responses their right."
      )
  if run.config.model.checkpoint and run.config.model.shape is not None:
    run.progress.message("config.model.shape is not used: config.model.checkpoint says the shape.")
  run.progress.message(describe("policy", run.policy))
  run.progress.message(describe("reward model", run.reward_model))
  sharing = describe_sharing(run.origins, run.policy, run.reward_model)
  if sharing is not None:
    run.progress.message(sharing)


def _unfinished(run: RunContext, listed: list[Phase]) -> list[Phase]:
  """The phases from the first without a result on.

  Only the first process looks: on a shared file system the others may not yet see a file, and
  all must agree.
  """
  finished = np.zeros(len(listed), bool)
  if run.is_writer:
    finished[:] = [(run.round_dir(phase.round) / phase.result).exists() for phase in listed]
  if jax.process_count() > 1:
    finished = np.asarray(multihost_utils.broadcast_one_to_all(finished))
  first = len(listed) if finished.all() else int(np.argmin(finished))
  return listed[first:]
