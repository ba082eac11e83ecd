"""Branches and replays as users type them: a run that diverges, and what goes on from before."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from apo_jax.logs.files import file_sha256, read_json, read_jsonl
from tests import tiny, whole_run


def typed(module: str, *flags: object, code: int = 0) -> str:
  """What a command says, on both streams."""
  command = [sys.executable, "-m", f"apo_jax.{module}", *map(str, flags)]
  result = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, timeout=600)
  said = result.stdout + result.stderr
  assert result.returncode == code, said
  assert "Traceback" not in said
  return said


def numbers(run_dir: Path) -> dict:
  """All that a run measured, without the times that it took."""
  lines = [
    {name: value for name, value in line.items() if name != "time"}
    for line in read_jsonl(run_dir / "metrics.jsonl")
  ]
  files = [
    path
    for path in sorted(run_dir.glob("rounds/*/*"))
    if path.name.endswith(("_samples.jsonl", "evaluation.json", "score.json", "judgements.json"))
  ]
  return {"lines": lines} | {str(path.relative_to(run_dir)): file_sha256(path) for path in files}


@pytest.mark.slow
def test_an_unchanged_branch_plays_on_to_the_same_numbers(tmp_path):
  whole, again = whole_run.played(), tmp_path / "again"
  said = typed("branch", f"--run={whole}", "--from=0", f"--run_dir={again}")
  command = shlex.split(said.strip().splitlines()[-1])
  assert command == ["python", "-m", "apo_jax.main", f"--run_dir={again}"]
  typed("main", *command[3:])
  assert numbers(again) == numbers(whole) and len(numbers(whole)) > 6
  page = (again / "report.html").read_text()
  assert f"Branched from {whole} after round 0, with no field changed." in page


@pytest.mark.slow
def test_a_phase_that_diverges_is_replayed_and_branched_from(tmp_path):
  whole, wild = whole_run.played(), tmp_path / "wild"
  training = "config.policy.training"
  wilder = (f"--{training}.learning_rate=1e30", f"--{training}.warmup_steps=0")
  typed("branch", f"--run={whole}", "--from=0", f"--run_dir={wild}", *wilder)
  said = typed("main", f"--run_dir={wild}", code=2).splitlines()[-1]
  assert "In phase policy of round 1, " in said and " is nan at update 2." in said
  replay, branch = (shlex.split(command)[2:] for command in said.split("`")[1::2])
  before = {path: file_sha256(path) for path in wild.rglob("*") if path.is_file()}
  found = typed(replay[0].removeprefix("apo_jax."), *replay[1:])
  assert {path: file_sha256(path) for path in wild.rglob("*") if path.is_file()} == before
  assert "Reproduced, to the bit: update 2 of phase policy of round 1 gives" in found
  assert "First not finite: " in found and "query 7: " in found and "logprob" in found
  # The command that the sentence names, with the rate that the run had at first: the very game.
  original = tiny.config().policy.training
  branch[-1] = f"--{training}.learning_rate={original.learning_rate}"
  back = f"--{training}.warmup_steps={original.warmup_steps}"
  typed(branch[0].removeprefix("apo_jax."), *branch[1:], back)
  tamed = Path(f"{wild}-from-0")
  assert read_json(tamed / "branch.json")["before"]["run"] == str(whole)
  typed("main", f"--run_dir={tamed}")
  assert numbers(tamed) == numbers(whole)
  assert "keeps no failed batch" in typed("replay", f"--run={tamed}", code=2)


def test_what_is_typed_wrongly_is_one_sentence(tmp_path):
  said = typed("branch", "--run=/nowhere", "--from=1", f"--run_dir={tmp_path / 'new'}", code=2)
  assert said.startswith("apo_jax: --run is '/nowhere', which holds no config.json")
  assert len(said.strip().splitlines()) == 1 and "config_file" not in said
  said = typed("replay", "--run=/nowhere", code=2)
  assert said.startswith("apo_jax: --run is '/nowhere', which holds no config.json")
