"""The command line, as a user types it."""

import json
import signal
import subprocess
import sys
import time

import pytest

from apo_jax.logs.files import read_json
from apo_jax.logs.metrics import read_metrics
from tests import tiny, whole_run


def command(*arguments: object) -> list[str]:
  return [sys.executable, "-m", "apo_jax.main", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess:
  return subprocess.run(
    command(*arguments), cwd=tiny.ROOT, capture_output=True, text=True, timeout=300
  )


def refused(*arguments: object) -> str:
  """What is said to a command that must fail: one line, no traceback, nothing played."""
  result = run(*arguments)
  assert result.returncode not in (0, None), result.stdout
  assert "Traceback" not in result.stderr
  lines = [line for line in result.stderr.splitlines() if line.strip()]
  assert len(lines) == 1, result.stderr
  assert "updates" not in result.stdout
  return lines[0]


DEMO = "--config=configs/demo.py"


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([DEMO, "--config.policy.losss=dpo"], ["losss", "loss"]),
    ([DEMO, "--config.policy.loss=ppo"], ["config.policy.loss", "ppo", "dpo", "rjs", "rrhf"]),
    ([DEMO, "--config.policy.dpo.beta=-1"], ["config.policy.dpo.beta is -1.0", "above 0"]),
    ([DEMO, "--config.reward.mode=never"], ["config.reward.mode", "never", "fixed"]),
    (["--config=configs/smollm2_hh.py:big"], ["smollm2_hh.py:big", "small or full"]),
    (["--config=configs/paper/reward_base.py:big"], ["paper/reward_base.py:big", "must be toy"]),
    ([DEMO, "--config.health.empty=2"], ["config.health.empty is 2.0", "at least 0 and at most 1"]),
    ([DEMO, "--config.rounds=many"], ["rounds", "many"]),
    ([DEMO, "--config.sampling.training.num_samples=1"], ["num_samples is 1", "at least 2"]),
    ([DEMO, "--config.reward.preference_batch_size=0"], ["preference_batch_size", "0"]),
    (["--config=configs/missing.py"], ["configs/missing.py"]),
    (["configs/demo.py"], ["configs/demo.py", "--config=configs/demo.py"]),
    ([], ["--config"]),
  ],
  ids=lambda value: None if isinstance(value, list) else str(value),
)
def test_wrong_flags_are_one_sentence(arguments, said):
  line = refused(*arguments)
  for part in said:
    assert part in line


def test_a_mesh_that_does_not_fit(tmp_path):
  line = refused(DEMO, "--config.mesh.tensor=3", f"--run_dir={tmp_path / 'run'}")
  assert "config.mesh" in line and "3" in line and "devices" in line
  assert not (tmp_path / "run").exists()


def test_data_files_that_are_missing_or_empty(tmp_path):
  def write(name, *rows):
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"--config.data.{name}={path}"

  ids = [{"query_id": str(i), "query": f"\n\nHuman: {i}?\n\nAssistant:"} for i in range(60)]
  arguments = [
    DEMO,
    "--config.data.source=files",
    write("demonstrations", *({**one, "response": " yes"} for one in ids)),
    write("preferences", *({**one, "responses": [" a", " b"], "scores": [1, 0]} for one in ids)),
    write("golden", *({**one, "response": " yes"} for one in ids)),
    f"--run_dir={tmp_path / 'run'}",
  ]
  missing = f"--config.data.queries={tmp_path / 'nothing.jsonl'}"
  line = refused(*arguments, missing)
  assert "config.data.queries" in line and "nothing.jsonl" in line
  line = refused(*arguments, write("queries"))
  assert "config.data.queries" in line and "no record" in line
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_killed_run_continues_and_ends_like_one_that_was_not(tmp_path):
  """SIGKILL in the middle of a game, then SIGTERM; the same command again finishes it."""
  flags, whole = tiny.flags(rounds=1, checkpoints__every_steps=1), whole_run.played()
  killed = tmp_path / "killed"
  for number, reached in (
    (signal.SIGKILL, "golden_samples.jsonl"),
    (signal.SIGTERM, "reward.json"),
  ):
    process = subprocess.Popen(
      command(*flags, f"--run_dir={killed}"),
      cwd=tiny.ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    deadline = time.monotonic() + 200
    while not (killed / "rounds/01" / reached).exists():
      assert process.poll() is None and time.monotonic() < deadline
      time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert not (killed / "rounds/01/evaluation.json").exists()
  assert process.returncode == 75
  assert said.splitlines()[-1].startswith("apo_jax: Ended by SIGTERM; what is finished is kept")
  assert "Traceback" not in said
  result = run(*flags, f"--run_dir={killed}")
  assert result.returncode == 0, result.stderr
  assert f"The run is in {killed}" in result.stdout
  *_, start, _, end, _, _, last = result.stdout.splitlines()  # errors stand under numbers
  assert start.split()[0] == "0" and end.split()[0] == "1"  # the table, whole, at the end
  assert "report.html" in last
  for name in ("rounds/00/evaluation.json", "rounds/01/evaluation.json"):
    assert read_json(killed / name) == read_json(whole / name)
  steps = [(line["round"], line["phase"], line["step"]) for line in read_metrics(killed)]
  assert steps == [(line["round"], line["phase"], line["step"]) for line in read_metrics(whole)]


@pytest.mark.slow
def test_a_reward_that_is_no_number_ends_the_run_with_a_sentence(tmp_path):
  """It was written as null, and ended in a TypeError of another thread."""
  price = {"policy__length_penalty__coefficient": 3e38}  # a float32, but not for two tokens
  flags = tiny.flags(rounds=1, policy__shapings="('length_penalty',)", **price)
  result = run(*flags, f"--run_dir={tmp_path}")
  lines = [line for line in result.stderr.splitlines() if line.strip()]
  assert result.returncode and "Traceback" not in result.stderr, result.stderr
  assert "the reward as length_penalty shapes it is not a finite number" in lines[-1]
  # What was played before is kept, and nothing of the phase that ended is written.
  kept = tmp_path / "rounds/01"
  assert (kept / "reward.json").exists() and not (kept / "score.json").exists()
  assert '"reward": null' in (kept / "policy_samples.jsonl").read_text()


def test_help_shows_the_flags():
  result = run("--help")
  assert result.returncode == 0
  assert "--config" in result.stdout and "--run_dir" in result.stdout
