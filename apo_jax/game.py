"""The game: a list of phases, each writing its result to the run directory.

A phase whose result is there is not played again, so starting the same command again continues
where it stopped. Within a training phase, checkpoints do the same for single updates.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from apo_jax import files
from apo_jax.config import Config, ConfigError, check_mesh, resolve_mesh, to_dict
from apo_jax.data.records import GameData
from apo_jax.data.sources import fingerprint, load_data
from apo_jax.data.tokens import load_tokenizer, make_codec, train_tokenizer
from apo_jax.evaluation.evaluate import evaluate
from apo_jax.metrics_writer import MetricsWriter
from apo_jax.progress import Progress
from apo_jax.report import write_report
from apo_jax.run_context import RunContext
from apo_jax.sampling_phases import (
  sample_golden_queries,
  sample_policy_queries,
  score_samples,
)
from apo_jax.sharding import make_mesh
from apo_jax.training_phases import (
  train_policy,
  train_reward,
  train_reward_base,
  train_supervised,
  train_testing_reward,
)

# What may differ when a run goes on: where it runs, how much it says, and how long it plays.
_MAY_CHANGE = ("rounds", "mesh", "checkpoints", "logging")


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
    Phase(0, "evaluation.json", functools.partial(evaluate, round=0)),
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
      ("evaluation.json", evaluate),
    ]
    listed += [Phase(round, name, functools.partial(play, round=round)) for name, play in steps]
  return listed


def identity(config: Config) -> str:
  """A short hash of all that makes a run what it is; what may change in between is left out."""
  fixed = {name: value for name, value in to_dict(config).items() if name not in _MAY_CHANGE}
  return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:8]


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
  sizes = resolve_mesh(config, jax.device_count())
  check_mesh(config, sizes)
  data = load_data(config)
  _claim(run_dir, config)
  mesh = make_mesh(sizes)
  is_writer = jax.process_index() == 0
  progress = Progress(is_writer)
  writer = MetricsWriter(
    run_dir,
    tensorboard=config.logging.tensorboard,
    wandb=config.logging.wandb,
    wandb_project=config.logging.wandb_project,
    config=to_dict(config),
    enabled=is_writer,
  )
  with jax.set_mesh(mesh), writer:
    codec = make_codec(_tokenizer(config, run_dir, data), config.tokenizer, config.data)
    run = RunContext(config, run_dir, mesh, data, codec, progress, writer)
    left = _unfinished(run, phases(config))
    _show_finished_rounds(run, left)
    for phase in left:
      if phase.round:
        _write_provenance(run, phase.round)
      phase.play(run)
      _barrier(f"{phase.round} {phase.result}")
      if phase.result == "evaluation.json":
        _drop_old_checkpoints(run, phase.round)
        if is_writer:
          write_report(run_dir)
      on_phase_end(phase)
  return run_dir / "report.html"


def _unfinished(run: RunContext, listed: list[Phase]) -> list[Phase]:
  """The phases from the first without a result on; all processes see what the first one sees."""
  finished = [(run.round_dir(phase.round) / phase.result).exists() for phase in listed]
  finished = _from_first_process(np.array(finished))
  first = len(listed) if finished.all() else int(np.argmin(finished))
  return listed[first:]


def _show_finished_rounds(run: RunContext, left: list[Phase]) -> None:
  rest = {phase.round for phase in left if phase.result == "evaluation.json"}
  for round in range(run.config.rounds + 1):
    path = run.round_dir(round) / "evaluation.json"
    if round not in rest and path.exists():
      run.progress.round_row(files.read_json(path))


def _claim(run_dir: Path, config: Config) -> None:
  """Writes config.json, or checks that the run directory belongs to this config."""
  path = run_dir / "config.json"
  ours = to_dict(config)
  if path.exists():
    theirs = files.read_json(path)
    for field, old, new in _differences(theirs, ours, "config"):
      if field.split(".")[1] not in _MAY_CHANGE:
        raise ConfigError(
          f"{field} is {new!r}, but the run in {run_dir} was started with {old!r}; give another "
          "--run_dir, or the old value to continue that run."
        )
  _barrier("claim")
  if jax.process_index() == 0:
    files.write_json(path, ours)


def _differences(old: Any, new: Any, field: str) -> list[tuple[str, Any, Any]]:
  if isinstance(old, dict) and isinstance(new, dict):
    names = sorted(old.keys() | new.keys())
    return [
      found
      for name in names
      for found in _differences(old.get(name), new.get(name), f"{field}.{name}")
    ]
  return [] if old == new else [(field, old, new)]


def _tokenizer(config: Config, run_dir: Path, data: GameData) -> Any:
  """The run's tokenizer; the run directory keeps a copy, which is the one that is used."""
  path = run_dir / "tokenizer"
  finished = path / "finished"
  if jax.process_index() == 0 and not finished.exists():
    if config.tokenizer.path:
      tokenizer = load_tokenizer(config.tokenizer.path)
    else:
      tokenizer = train_tokenizer(_training_texts(data), config.tokenizer.vocab_size)
    tokenizer.save_pretrained(path)
    files.write_text(finished, "")
  _barrier("tokenizer")
  return load_tokenizer(path)


def _training_texts(data: GameData) -> list[str]:
  """Every text but the test side's."""
  texts = []
  for split in (data.reward, data.policy):
    texts += [text for record in split.preferences for text in (record.query, *record.responses)]
    texts += [text for record in split.golden for text in (record.query, record.response)]
    texts += [record.query for record in split.queries]
  texts += [text for record in data.demonstrations for text in (record.query, record.response)]
  return texts


def _write_provenance(run: RunContext, round: int) -> None:
  """Says of a round what would have to be known to play it again."""
  path = run.round_dir(round) / "provenance.json"
  if not run.is_writer or path.exists():
    return
  files.write_json(
    path,
    {
      "round": round,
      "seed": run.config.seed,
      "sampling_policy": run.policy_after(round - 1),
      "policy_start": run.policy_start(round),
      "reference": run.reference(round),
      "reward_update": run.config.reward.update,
      "reward_start": run.reward_start(round),
      "data_sha256": fingerprint(run.data),
      "sampler": dataclasses.asdict(run.config.sampling.training),
      "evaluation_sampler": dataclasses.asdict(run.config.sampling.evaluation),
      "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
      "mesh": dict(run.mesh.shape),
      "jax": jax.__version__,
    },
  )


def _drop_old_checkpoints(run: RunContext, round: int) -> None:
  """Deletes the checkpoints of rounds that are older than the newest `checkpoints.keep`."""
  old = round - run.config.checkpoints.keep
  if run.is_writer and old >= 1:
    for player in (f"{old:02d}_policy", f"{old:02d}_reward"):
      with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(run.checkpoint_dir(player))


def _from_first_process(value: np.ndarray) -> np.ndarray:
  if jax.process_count() == 1:
    return value
  return np.asarray(multihost_utils.broadcast_one_to_all(value))


def _barrier(name: str) -> None:
  """Waits until every process is here: what the first one wrote is there for all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)
