"""Two processes joined on this machine play the game of one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from apo_jax.logs.files import read_json, read_jsonl
from apo_jax.logs.metrics import read_metrics
from tests import checkpoints, tiny, whole_run

# Copies of the weights on both processes differ from one process in how gradients add up alone.
COPIES = {"rtol": 1e-5, "atol": 1e-5}
# Products of sharded weights add up in another order too. Adam divides a gradient by its own size,
# so that one whose sign is a matter of rounding moves its weight by a whole step: what comes after
# several phases of updates agrees less.
SHARDS = {"rtol": 1e-5, "atol": 5e-5}
SHARDS_IN_ROUNDS = {"rtol": 1e-3, "atol": 2e-3}


def play(arguments: list[str]) -> None:
  environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
  result = subprocess.run(
    [sys.executable, *arguments],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    env=environment,
    timeout=400,
  )
  assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_two_processes_with_a_copy_each_end_with_the_numbers_of_one(tmp_path):
  """From random weights, all of them trained."""
  play_by_two(tmp_path, tiny.flags(rounds=1, mesh__data=-1, mesh__fsdp=1))
  compare(whole_run.played(), tmp_path / "two", before=COPIES, in_rounds=COPIES)
  assert read_json(tmp_path / "two/rounds/01/provenance.json")["mesh"]["data"] == 2


@pytest.mark.slow
def test_two_processes_with_half_each_end_with_the_numbers_of_one(tmp_path):
  """From a checkpoint: a policy with adapters beside frozen shards, a whole reward model."""
  flags = tiny.flags(
    rounds=1,
    model__checkpoint=checkpoints.write(tmp_path / "checkpoint"),
    policy__lora__rank=2,
    policy__lora__dropout=0.1,
    supervised__epochs=1,
    data__query_length=48,  # the chat template's turns take more tokens
    data__query_buckets=(48,),
    data__row_length=72,
    mesh__data=1,
    mesh__fsdp=-1,
  )
  play(["-m", "apo_jax.main", *flags, f"--run_dir={tmp_path / 'one'}"])
  play_by_two(tmp_path, flags)
  compare(tmp_path / "one", tmp_path / "two", before=SHARDS, in_rounds=SHARDS_IN_ROUNDS)
  assert read_json(tmp_path / "two/rounds/01/provenance.json")["mesh"]["fsdp"] == 2


def play_by_two(folder: Path, flags: list[str]) -> None:
  play(["launch/local.py", "--processes=2", "--", *flags, f"--run_dir={folder / 'two'}"])


def compare(one: Path, two: Path, *, before: dict[str, float], in_rounds: dict[str, float]) -> None:
  """Files, samples, metrics and evaluation of the runs of one process and of two."""
  files = {str(path.relative_to(one)) for path in one.rglob("*") if path.is_file()}
  assert {name for name in files if "checkpoints" not in name} == {
    name
    for name in (str(path.relative_to(two)) for path in two.rglob("*") if path.is_file())
    if "checkpoints" not in name
  }
  for name in ("golden_samples", "policy_samples", "test_samples"):
    ours = read_jsonl(two / f"rounds/01/{name}.jsonl")
    theirs = read_jsonl(one / f"rounds/01/{name}.jsonl")
    assert [[s["tokens"] for s in q["samples"]] for q in ours] == [
      [s["tokens"] for s in q["samples"]] for q in theirs
    ]
  for ours, theirs in zip(read_metrics(two), read_metrics(one), strict=True):
    assert (ours["phase"], ours["step"]) == (theirs["phase"], theirs["step"])
    keys = theirs.keys() - {"time", "phase"}
    if abs(theirs.get("margin", 1.0)) < 1e-5:
      # The first DPO update compares the policy with itself: only rounding says who wins.
      keys -= {"accuracy"}
    bounds = in_rounds if theirs["round"] else before
    for key in keys:
      np.testing.assert_allclose(ours[key], theirs[key], **bounds, err_msg=key)
  ours, theirs = (read_json(run / "rounds/01/evaluation.json") for run in (two, one))
  for part in ("confidence", "accuracy", "count"):
    expected = [np.nan if value is None else value for value in theirs["calibration"][part]]
    actual = [np.nan if value is None else value for value in ours["calibration"][part]]
    np.testing.assert_allclose(actual, expected, **in_rounds, err_msg=part)
  # Errors and differences are made of the same values.
  for key in theirs.keys() - {"calibration", "standard_errors", "differences"}:
    expected = np.nan if theirs[key] is None else theirs[key]
    actual = np.nan if ours[key] is None else ours[key]
    np.testing.assert_allclose(actual, expected, **in_rounds, err_msg=key)


def test_what_is_wrong_is_said_once_and_ends_all_processes(tmp_path):
  flags = tiny.flags(policy__training__batch_size=7, rounds=1)
  result = subprocess.run(
    [sys.executable, "launch/local.py", "--processes=2", "--", *flags, f"--run_dir={tmp_path}"],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert result.returncode == 2
  assert "config.policy.training.batch_size is 7" in result.stderr + result.stdout
  assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.slow
def test_a_game_goes_on_with_other_processes_and_devices(tmp_path):
  """One process of 8 devices, asked to end; two of 4, of which one is killed; one of 1."""
  run_dir = tmp_path / "run"
  flags = [*tiny.flags(rounds=1, mesh__data=-1, mesh__fsdp=1), f"--run_dir={run_dir}"]
  command = ["launch/local.py", "--processes={}", "--devices_per_process={}", "--", *flags]
  for processes, devices, reached, number, code in (
    (1, 8, "checkpoints/00_supervised/2", signal.SIGTERM, 75),
    (2, 4, "rounds/01/golden_samples.jsonl", signal.SIGKILL, 137),
  ):
    filled = [part.format(n) for part, n in zip(command[1:3], (processes, devices), strict=True)]
    with subprocess.Popen(
      [sys.executable, command[0], *filled, *command[3:]],
      cwd=tiny.ROOT,
      stderr=subprocess.PIPE,
      text=True,
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
    ) as launcher:
      while not (run_dir / reached).exists():
        assert launcher.poll() is None
        time.sleep(0.05)
      victims = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
      os.kill(int(victims[-1]), number)
      said = launcher.communicate(timeout=300)[1]
    assert launcher.returncode == code, said
    assert "Traceback" not in said
  assert "apo_jax: Process 1 on" in said
  play(["-m", "apo_jax.main", *flags])
  compare(whole_run.played(), run_dir, before=COPIES, in_rounds=COPIES)
