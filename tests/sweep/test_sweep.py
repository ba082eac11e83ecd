"""Sweeps as a user types them."""

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from apo_jax.compare import comparison
from apo_jax.logs.files import read_json
from apo_jax.logs.metrics import read_metrics
from apo_jax.sweep import __main__ as sweep_command
from tests import tiny, whole_run

DEMO = "--config=configs/demo.py"


def command(*arguments: object) -> list[str]:
  return [sys.executable, "-m", "apo_jax.sweep", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess:
  return subprocess.run(
    command(*arguments), cwd=tiny.ROOT, capture_output=True, text=True, timeout=600
  )


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (
      ["--set", "policy.losss=rjs"],
      ["policy.losss=rjs", "losss is 'rjs', but there is no", "loss"],
    ),
    (
      ["--set", "config=configs/demo.py,configs/no.py"],
      ["config=no", "configs/no.py", "no such file"],
    ),
    (["--set", "policy.loss=rjs,ppo"], ["policy.loss=ppo", "must be", "'rjs'"]),
  ],
  ids=("no field", "no file", "no choice"),
)
def test_a_wrong_run_is_refused_before_any_is_started(tmp_path, arguments, said):
  result = run(DEMO, *arguments, f"--sweep_dir={tmp_path / 'sweep'}")
  assert result.returncode and not result.stdout
  (line,) = result.stderr.splitlines()
  assert all(part in line for part in said), line
  assert not (tmp_path / "sweep").exists()


def test_a_dry_run_prints_what_a_user_would_type(tmp_path):
  """Each line is a whole command, and runs that do not differ in what they read are one."""
  result = run(
    *[
      DEMO,
      "--config.rounds=1",
      "--set",
      "policy.loss=rjs,dpo",
      "--set",
      "policy.dpo.beta=0.1,0.5",
    ],
    *["--set", "policy.shapings=(),('missing_end',)", "--seeds=3,7", "--dry_run"],
    f"--sweep_dir={tmp_path}",
  )
  assert not result.returncode, result.stderr
  lines = [shlex.split(line) for line in result.stdout.splitlines()]
  assert len(lines) == 2 * 2 * (1 + 2)
  assert all(line[:4] == ["python", "-m", "apo_jax.main", DEMO] for line in lines)
  assert all("--config.rounds=1" in line and f"--share={tmp_path}/shared" in line for line in lines)
  assert "--config.policy.shapings=('missing_end',)" in lines[-1]
  assert "--config.policy.dpo.beta=0.5" in lines[-1] and "--config.seed=7" in lines[-1]
  assert not list(tmp_path.iterdir())


def test_config_files_are_swept_over(tmp_path):
  files = ("configs/methods/kto.py", "configs/methods/ipo.py")
  grid = ["--set", f"config,policy.training.learning_rate={files[0]}:1e-4,{files[1]}:2e-4"]
  result = run(
    DEMO, "--config.rounds=1", *grid, "--seeds=3,", "--dry_run", f"--sweep_dir={tmp_path}"
  )
  assert not result.returncode, result.stderr
  lines = [shlex.split(line) for line in result.stdout.splitlines()]
  for line, file, rate in zip(lines, files, ("1e-4", "2e-4"), strict=True):
    assert [one for one in line if one.startswith("--config=")] == [f"--config={file}"]
    assert f"--config.policy.training.learning_rate={rate}" in line and "--config.rounds=1" in line
    assert f"--run_dir={tmp_path}/config={Path(file).stem},policy.training" in " ".join(line)


def content(run_dir: Path) -> dict:
  """All that a run measured and made, without times and what only says how it was played."""
  metrics = [
    {name: value for name, value in line.items() if name != "time"}
    for line in read_metrics(run_dir)
  ]
  texts = {
    str(path.relative_to(run_dir)): path.read_text()
    for pattern in ("*.jsonl", "evaluation.json", "judgements.json", "judge.json", "score.json")
    for path in run_dir.glob(f"rounds/*/{pattern}")
  }
  return {"metrics": metrics, **texts}


def parameters(run_dir: Path) -> dict:
  """The final parameters of every player."""
  found = {}
  for directory in sorted((run_dir / "checkpoints").iterdir()):
    with ocp.training.Checkpointer(directory.absolute()) as checkpointer:
      found[directory.name] = checkpointer.load_checkpointables(None, {"parameters": None})
  return found


def test_a_signal_ends_the_comparison_of_many_runs_too(tmp_path, monkeypatch, capsys):
  before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

  def compare(finished):
    signal.raise_signal(signal.SIGTERM)
    raise AssertionError("the comparison went on")

  monkeypatch.setattr(comparison, "compare", compare)
  try:
    with pytest.raises(SystemExit) as ended:
      sweep_command._compare([tmp_path], tmp_path)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  assert ended.value.code == 128 + signal.SIGTERM
  assert "Stopped by SIGTERM; what is finished is kept" in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_that_was_stopped_ends_as_runs_played_alone(tmp_path):
  """Three losses of one seed; the third takes over what it has in common with the second.

  The first needs more devices than there are: it fails, and the others are played all the same.
  """
  sweep = tmp_path / "sweep"
  grid = "policy.loss,mesh.fsdp=rrhf:3,rjs:1,dpo:1"
  flags = [*whole_run.FLAGS, "--set", grid, "--seeds=1", f"--sweep_dir={sweep}"]
  first, second = (sweep / f"policy.loss={loss},mesh.fsdp=1,seed=0" for loss in ("rjs", "dpo"))

  process = subprocess.Popen(
    command(*flags), cwd=tiny.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )
  deadline = time.monotonic() + 300
  while not (first / "rounds/01/golden_samples.jsonl").exists():
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.02)
  process.send_signal(signal.SIGTERM)
  said, _ = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM
  assert "the same command goes on" in said
  assert not (first / "rounds/01/evaluation.json").exists() and not (second / "rounds").exists()

  result = run(*flags)
  assert result.returncode == 1, result.stdout + result.stderr
  (line,) = result.stderr.splitlines()
  assert "policy.loss=rrhf,mesh.fsdp=3,seed=0 failed" in line and "config.mesh" in line
  assert f"{second.name}: done" in result.stdout
  taken = [read_json(path) for path in sorted(second.glob("rounds/*/adopted.json"))]
  assert [sorted(one) for one in taken] == [
    ["evaluation.json", "reward_base.json", "supervised.json", "testing_reward.json"],
    ["golden_samples.jsonl", "policy_samples.jsonl", "reward.json"],
  ]
  assert {origin for one in taken for origin in one.values()} == {str(first)}
  assert not list(first.glob("rounds/*/adopted.json"))
  # Once more there is nothing left to do.
  began = read_metrics(second)
  remaining = [flag.replace("rrhf:3,", "") for flag in flags]
  assert run(*remaining).returncode == 0 and read_metrics(second) == began

  alone = whole_run.played()
  assert content(second) == content(alone)
  ours, theirs = parameters(second), parameters(alone)
  assert len(ours) == 5
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
