"""The game: a list of phases, each writing its result to the run directory.

A phase whose result is there is not played again, so starting the same command again continues
where it stopped. Within a training phase, checkpoints do the same for single updates.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from apo_jax.config.base import to_dict
from apo_jax.config.schema import Config
from apo_jax.data.reports import SourceReport
from apo_jax.data.template_check import TemplateCheck
from apo_jax.data.tokenised import cut_and_left_out
from apo_jax.devices import interrupts
from apo_jax.devices.processes import barrier, of_the_first
from apo_jax.devices.sharding import make_mesh
from apo_jax.logs import files
from apo_jax.logs.metrics import MetricsWriter
from apo_jax.logs.places import Place
from apo_jax.logs.progress import Progress
from apo_jax.logs.run_directory import (
  BASELINE_SAMPLES,
  EVALUATION,
  GOLDEN_SAMPLES,
  INITIAL_SAMPLES,
  POLICY_SAMPLES,
  SCORE,
  SUPERVISED_SAMPLES,
  RunDirectory,
)
from apo_jax.phases.evaluation import evaluate
from apo_jax.phases.health import check_all_health, check_health
from apo_jax.phases.sampling import (
  sample_baselines,
  sample_golden_queries,
  sample_initial_policy,
  sample_policy_queries,
  sample_supervised_start,
  score_samples,
)
from apo_jax.phases.training import (
  train_policy,
  train_reward,
  train_reward_base,
  train_supervised,
  train_testing_reward,
  train_testing_trunk,
)
from apo_jax.report.occasional import OccasionalReports
from apo_jax.report.page import write_report
from apo_jax.run.adoption import adopt
from apo_jax.run.branched import read_branch, refuse_sharing
from apo_jax.run.checking import Checked, check, read_as_tokens
from apo_jax.run.judge import describe_judge, judge_facts, training_of_judge
from apo_jax.run.lock import owned_by_run
from apo_jax.run.ownership import claim, make_directory
from apo_jax.run.phase_inputs import PhaseName, phase_names
from apo_jax.run.provenance import write_provenance
from apo_jax.run.records import (
  finished_phases,
  forget_record,
  record_last,
  record_phase,
)
from apo_jax.run.repair import mend
from apo_jax.run.retention import drop_old_checkpoints
from apo_jax.run.run import Logs, Run, make_run
from apo_jax.run.sharing import SharedPhases, check_sharing, make_folder, shared_phases
from apo_jax.run.starts import describe, describe_sharing
from apo_jax.run.tokenizer import shared_tokenizer


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
  play: Callable[[Run], None]

  @property
  def name(self) -> PhaseName:
    """Which phase of a game it is."""
    return PhaseName(self.round, self.result)


# By their results, in the order in which they are played (`phase_names`).
_BEFORE_THE_FIRST_ROUND: dict[str, Callable[[Run], None]] = {
  INITIAL_SAMPLES: sample_initial_policy,
  BASELINE_SAMPLES: sample_baselines,
  "supervised.json": train_supervised,
  SUPERVISED_SAMPLES: sample_supervised_start,
  "reward_base.json": train_reward_base,
  "testing_trunk.json": train_testing_trunk,
  "testing_reward.json": train_testing_reward,
  EVALUATION: functools.partial(evaluate, round=0),
}
_IN_A_ROUND: dict[str, Callable[..., None]] = {
  GOLDEN_SAMPLES: sample_golden_queries,
  "reward.json": train_reward,
  POLICY_SAMPLES: sample_policy_queries,
  SCORE: score_samples,
  "policy.json": train_policy,
  EVALUATION: evaluate,
}


def phases(config: Config) -> list[Phase]:
  """The whole game, in order."""
  return [
    Phase(
      *name,
      functools.partial(_IN_A_ROUND[name.result], round=name.round)
      if name.round
      else _BEFORE_THE_FIRST_ROUND[name.result],
    )
    for name in phase_names(config)
  ]


def play(
  config: Config,
  run_dir: Place,
  *,
  share: Path | None = None,
  repair: bool = False,
  on_phase_end: Callable[[Phase], None] = lambda phase: None,
) -> Place:
  """Plays the game, or what is left of it, and returns the path of its report.

  With several processes, every one calls this, and the run directory is on storage they share.

  Args:
    config: the whole run.
    run_dir: where everything is written.
    share: a folder of phases that runs share (`run/sharing.py`): one that is there is taken over,
      one that another run plays is waited for, and what is played here is added.
    repair: play phases again whose results are damaged, and what follows from them.
    on_phase_end: called after each phase that was played or taken over.

  Raises:
    ConfigError: the config does not fit the data, the devices or what the run directory holds, or
      that is damaged; raised before any work is done.
    DamagedCheckpoint: a player that a later phase reads is.
  """
  if share is not None:
    check_sharing(share, run_dir)
    refuse_sharing(RunDirectory(run_dir))
  directory = RunDirectory(run_dir)
  checked = check(config, directory, repair=repair)
  make_directory(directory)
  if share is not None:
    make_folder(share)
  with owned_by_run(directory):
    return _play_all(config, checked, directory, share, repair, on_phase_end)


def _play_all(
  config: Config,
  checked: Checked,
  directory: RunDirectory,
  share: Path | None,
  repair: bool,
  on_phase_end: Callable[[Phase], None],
) -> Place:
  with shared_tokenizer(directory, checked.tokenizer) as tokenizer:
    codec, data, template = read_as_tokens(config, checked, tokenizer)
    logs = _open_logs(config, directory.path)
  origins, texts = checked.origins, checked.texts
  claim(directory, config, origins, texts, data, codec)
  mesh = make_mesh(checked.sizes)
  with jax.set_mesh(mesh), logs.metrics:
    run = make_run(config, directory, origins, data, codec, mesh, logs)
    if logs.is_writer:
      if logs.metrics.mended:
        logs.progress.message(
          f"{directory.metrics} had {logs.metrics.mended} broken lines, which are dropped."
        )
      _introduce(run, texts.reports, template)
    if repair:  # first of all: what is damaged cannot be read
      mend(run, phase_names(config), checked.damage)
    branch = read_branch(directory)
    own = 0 if branch is None else branch.round + 1  # what was taken over had other fields
    # An earlier process may have had other thresholds.
    check_all_health(run, range(own, config.rounds + 1))
    finished = finished_phases(directory, phase_names(config))
    if logs.is_writer:
      record_last(directory, finished)
    shared = None
    if share is not None:
      shared = shared_phases(share, config, run.models, codec, directory, logs.progress.message)
    reports = OccasionalReports(directory.path)
    for phase in phases(config)[of_the_first(len(finished)) :]:
      interrupts.check()  # a library may have kept one to itself
      _play(run, phase, shared)
      if logs.is_writer and phase.result == EVALUATION and phase.round < config.rounds:
        reports.write()
      on_phase_end(phase)
    if logs.is_writer:
      # Also where nothing was left to play: a run may have been stopped just before its report.
      write_report(directory.path)
      evaluations = [directory.round(round) / EVALUATION for round in range(config.rounds + 1)]
      logs.progress.message("")
      logs.progress.table(map(files.read_json, evaluations))
  return directory.report


def _play(run: Run, phase: Phase, shared: SharedPhases | None) -> None:
  """Plays a phase or takes it over, and leaves the run directory in order behind it."""
  if phase.round:
    write_provenance(run, phase.round)
  with contextlib.nullcontext() if shared is None else shared.turn(phase.name) as finished:
    if run.logs.is_writer:
      forget_record(run.directory, phase.name)
    if finished is None:
      phase.play(run)
    elif run.logs.is_writer:
      origin = shared.origin(phase.name)
      run.logs.progress.message(f"{phase.name.words}: taken from {origin}, which played it.")
      adopt(finished, run.directory, phase.name, run.logs.metrics, origin)
      if phase.result == EVALUATION:
        run.logs.progress.judged(files.read_json(run.directory.round(phase.round) / phase.result))
    if run.logs.is_writer:
      record_phase(run.directory, phase.name, run.logs.metrics.of_round(phase.round))
    barrier(f"{phase.round} {phase.result}")
  if not run.logs.is_writer:
    return
  check_health(run, phase.round)
  ends_round = phase.result == EVALUATION
  newest = phase.round if ends_round else phase.round - 1
  drop_old_checkpoints(run.directory, newest, run.config.checkpoints.keep)


def _open_logs(config: Config, run_dir: Place) -> Logs:
  is_writer = jax.process_index() == 0
  metrics = MetricsWriter(
    run_dir,
    tensorboard=config.logging.tensorboard,
    wandb=config.logging.wandb,
    wandb_project=config.logging.wandb_project,
    config=to_dict(config),
    enabled=is_writer,
  )
  return Logs(Progress(is_writer), metrics, is_writer)


def _introduce(run: Run, reports: Sequence[SourceReport], template: TemplateCheck) -> None:
  """Says what the run is made of."""
  say, models = run.logs.progress.message, run.models
  for report in reports:
    say(report.sentence())
  if template.compared:
    say(template.sentence())
  for name, counts in cut_and_left_out(run.data).items():
    left_out = run.data.left_out[name]
    said = [f"{counts['cut_queries']:,} queries lose their left"] if counts["cut_queries"] else []
    said += [f"{number:,} left out ({why})" for why, number in left_out.items()]
    if said:
      say(f"{name}: of {counts['records'] + sum(left_out.values()):,}, {', '.join(said)}.")
  for field, checkpoint in models.origins.checkpoints.items():
    for note in checkpoint.notes:
      say(f"{field}: {note}.")
  if run.config.model.checkpoint and run.config.model.shape is not None:
    say("config.model.shape is not used: config.model.checkpoint says the shape.")
  config = run.config
  say(describe("policy", models.policy, config.policy.training))
  say(describe("reward model", models.reward, config.reward.training))
  if models.testing_reward is not models.reward:
    say(describe("testing reward model", models.testing_reward, training_of_judge(config)))
  sharing = describe_sharing(models.origins, models.policy, models.reward, models.testing_reward)
  if sharing is not None:
    say(sharing)
  say(describe_judge(judge_facts(config, models, run.data)))
