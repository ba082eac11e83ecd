"""Phases that runs share: taken over whole, by one run at a time, without a model."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_json, write_json, write_jsonl
from apo_jax.logs.locks import holder_of, try_lock
from apo_jax.logs.metrics import MetricsWriter, read_metrics
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run import sharing
from apo_jax.run.adoption import adopt, adopted_phases, copy_phase
from apo_jax.run.phase_inputs import PhaseName
from apo_jax.run.sharing import SharedPhases, check_sharing, drop_unneeded, lock_of

REWARD = PhaseName(1, "reward.json")
SCORE = PhaseName(1, "score.json")


def write(path: Path, text: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)


@pytest.fixture
def played(tmp_path) -> RunDirectory:
  """A run that has played round 1's reward step and scores."""
  run = RunDirectory(tmp_path / "played")
  for step in ("8", "16"):
    write(run.checkpoints("01_reward") / step / "parameters/data", f"parameters of {step}")
  write(run.checkpoints("01_reward") / "24.orbax-checkpoint-tmp-1/data", "not whole")
  for name in ("reward.json", "score.json", "policy_samples.jsonl", "golden_samples.jsonl"):
    write(run.round(1) / name, f'{{"of": "{name}"}}\n')
  rows = [("reward", 1), ("score", 1), ("reward", 2), ("policy", 1)]
  write_jsonl(
    run.metrics,
    ({"time": 1.0, "round": 1, "phase": phase, "step": step, "loss": 0.5} for phase, step in rows),
  )
  return run


def metrics_of(run: RunDirectory) -> MetricsWriter:
  off = {"tensorboard": False, "wandb": False, "wandb_project": "", "config": {}}
  return MetricsWriter(run.path, **off, enabled=True)


def shared(folder: Path, run: RunDirectory, say=lambda _: None) -> SharedPhases:
  keys = {name: name.stem for name in (REWARD, SCORE)}
  return SharedPhases(folder, run, keys, keys, say)


def test_a_phase_is_taken_over_whole(played, tmp_path):
  run = RunDirectory(tmp_path / "other")
  # What the run had begun to play itself makes room.
  write(run.checkpoints("01_reward") / "4/parameters/data", "begun")
  with metrics_of(run) as metrics:
    metrics.write({"loss": 9.0}, round=1, phase="reward", step=1)
    adopt(played, run, REWARD, metrics, "runs/played")
  (step,) = run.checkpoints("01_reward").iterdir()
  assert step.name == "16" and (step / "parameters/data").read_text() == "parameters of 16"
  assert [path.name for path in run.round(1).iterdir() if path.name != "adopted.json"] == [
    "reward.json"
  ]
  rows = [(row["phase"], row["step"], row["loss"]) for row in read_metrics(run.path)]
  assert rows == [("reward", 1, 0.5), ("reward", 2, 0.5)]
  assert adopted_phases(run, 1) == {"reward.json": "runs/played"}
  assert adopted_phases(run, 0) == {}


def test_what_is_rewritten_later_stays_as_it_was_elsewhere(played, tmp_path):
  """Scores rewrite the samples, whose phase has been shared before."""
  run = RunDirectory(tmp_path / "other")
  samples = PhaseName(1, "policy_samples.jsonl")
  copy_phase(played, run, samples)
  write_json(played.round(1) / samples.result, {"of": "scores"})
  assert read_json(run.round(1) / samples.result) == {"of": samples.result}
  copy_phase(played, run, SCORE)
  assert read_json(run.round(1) / samples.result) == {"of": "scores"}
  assert (run.round(1) / "golden_samples.jsonl").exists()


def test_without_hard_links_files_are_copied(played, tmp_path, monkeypatch):
  def refuse(source, target):
    raise OSError("another file system")

  monkeypatch.setattr("os.link", refuse)
  run = RunDirectory(tmp_path / "other")
  copy_phase(played, run, REWARD)
  assert (run.round(1) / REWARD.result).stat().st_nlink == 1
  assert (run.checkpoints("01_reward") / "16/parameters/data").exists()


def test_one_run_plays_and_the_next_waits_and_takes_over(played, tmp_path, monkeypatch):
  monkeypatch.setattr(sharing, "_SECONDS_BETWEEN_LOOKS", 0.01)
  folder, said = tmp_path / "shared", []
  one = shared(folder, played)
  other = shared(folder, RunDirectory(tmp_path / "other"), said.append)
  found = []

  def take() -> None:
    with other.turn(REWARD) as finished:
      found.append(finished)

  with one.turn(REWARD) as finished:
    assert finished is None  # nobody has played it
    thread = threading.Thread(target=take)
    thread.start()
    while not said:
      assert thread.is_alive()
    assert not found
    # Another phase need not wait.
    with other.turn(SCORE) as own:
      assert own is None
      write(RunDirectory(tmp_path / "other").round(1) / SCORE.result, "{}")
  thread.join(10)
  assert found[0].round(1).joinpath(REWARD.result).exists()
  assert len(said) == 1 and "round 1 reward: waits for" in said[0] and str(played) in said[0]
  assert other.origin(REWARD) == str(played)
  assert other.origin(SCORE) == str(tmp_path / "other")
  assert not list(folder.glob(".*"))


def test_a_shared_phase_that_has_changed_is_played_again(played, tmp_path):
  said = []
  one = shared(tmp_path / "shared", played, said.append)
  with one.turn(SCORE):
    pass
  with one.turn(SCORE) as finished:
    assert finished is not None and not said
  # Not in place, which would change the run's own file too.
  (finished.round(1) / SCORE.result).unlink()
  write(finished.round(1) / SCORE.result, "changed")
  with one.turn(SCORE) as again:
    assert again is None
  assert len(said) == 1 and "score.json" in said[0] and "played again" in said[0]
  with one.turn(SCORE) as finished:
    assert "score.json" in (finished.round(1) / SCORE.result).read_text()


def test_a_phase_that_failed_is_not_shared(played, tmp_path):
  one = shared(tmp_path / "shared", played)
  with pytest.raises(RuntimeError), one.turn(REWARD):
    raise RuntimeError
  with one.turn(REWARD) as finished:
    assert finished is None


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
  path = tmp_path / "locks" / "one"
  code = (
    "import pathlib, sys, time; from apo_jax.logs.locks import try_lock;"
    "lock = try_lock(pathlib.Path(sys.argv[1]), 'a run'); print('held', flush=True); time.sleep(60)"
  )
  holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
  assert holder.stdout.readline() == b"held\n"
  assert try_lock(path, "me") is None and holder_of(path) == "a run"
  holder.send_signal(signal.SIGKILL)
  holder.communicate()
  with try_lock(path, "me"):
    assert try_lock(path, "another") is None and holder_of(path) == "me"
  with try_lock(path, "another"):
    pass


def test_what_no_run_needs_is_dropped(played, tmp_path):
  folder = tmp_path / "shared"
  with shared(folder, played).turn(REWARD):
    pass
  drop_unneeded(folder, ())
  assert (folder / "reward").exists()  # the run has a link of the checkpoint: it takes no room
  for path in played.checkpoints("01_reward").rglob("data"):
    path.unlink()
  drop_unneeded(folder, {"reward"})
  assert (folder / "reward").exists()
  with try_lock(lock_of(folder / "reward"), "a run that takes it over"):
    drop_unneeded(folder, ())
    assert (folder / "reward").exists()
  drop_unneeded(folder, ())
  assert not (folder / "reward").exists()


@pytest.mark.parametrize("folder", ["gs:/bucket/shared", "a_file/shared"])
def test_a_folder_that_cannot_be_is_refused(tmp_path, monkeypatch, folder):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "a_file").write_text("")
  with pytest.raises(ConfigError, match=f"--share is '{folder}'"):
    check_sharing(Path(folder), tmp_path / "run")
