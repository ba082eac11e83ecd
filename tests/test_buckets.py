"""The tiny game in a bucket, by the command line, against an emulator that the tests start.

The bucket fails all the while: some answers are 503s, late or lost.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from apo_jax.logs.files import read_json
from apo_jax.logs.metrics import read_metrics
from tests import tiny, whole_run

bucket = pytest.importorskip("tests.bucket", reason="needs gcsfs and gcp-storage-emulator")

DIRECTORY = "runs/killed"
RUN_DIR = f"gs://{bucket.NAME}/{DIRECTORY}"
FAULTS = {"unavailable": 0.02, "lost": 0.01, "lost_answers": 0.01, "slow": 0.02}
# When it is killed.
REACHED = (
  "checkpoints/00_supervised/2/commit_success.txt",
  "rounds/00/reward_base.json",
  "rounds/01/reward.json",
)
# What a phase left that says how long it took.
TIMED = ("supervised.json", "reward_base.json", "testing_reward.json", "reward.json", "policy.json")


@pytest.fixture(scope="module")
def faulty() -> Iterator[bucket.Bucket]:
  with bucket.served(**FAULTS) as served:
    yield served


def start(served: bucket.Bucket, log: Path) -> subprocess.Popen:
  """The game in the bucket, which says what it says in a file."""
  with log.open("w") as file:
    return subprocess.Popen(
      [sys.executable, "-m", "apo_jax.main", *whole_run.FLAGS, f"--run_dir={RUN_DIR}"],
      cwd=tiny.ROOT,
      env={**os.environ, **served.environment()},
      stdout=file,
      stderr=subprocess.STDOUT,
    )


def wait_for(served: bucket.Bucket, file: str, process: subprocess.Popen, log: Path) -> None:
  deadline = time.monotonic() + 600
  while file not in served.names(DIRECTORY):
    assert process.poll() is None and time.monotonic() < deadline, log.read_text()
    time.sleep(0.02)


def brought_here(served: bucket.Bucket, place: Path) -> None:
  """Copies a run out of the bucket, as `gcloud storage cp -r` would."""
  for name in served.names(DIRECTORY):
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(served.storage.get_file(bucket.NAME, f"{DIRECTORY}/{name}"))


def checksums_of_players(run_dir: Path) -> dict[str, object]:
  """What each player's last checkpoint says of its arrays."""
  found = {}
  for directory in sorted((run_dir / "checkpoints").iterdir()):
    with ocp.training.Checkpointer(directory) as checkpointer:
      last = max(checkpoint.step for checkpoint in checkpointer.checkpoints)
      loaded = checkpointer.load_checkpointables(last, {"checksums": None})
      found[f"{directory.name}/{last}"] = jax.tree.map(
        lambda array: np.asarray(array).tolist(), loaded["checksums"]
      )
  return found


def check_alike(copy: Path) -> None:
  """A run that was copied here from the bucket is the one that was played here."""
  whole = whole_run.played()
  without_time = [
    [{key: value for key, value in row.items() if key != "time"} for row in read_metrics(one)]
    for one in (copy, whole)
  ]
  assert without_time[0] == without_time[1]
  results = {str(path.relative_to(whole)) for path in whole.glob("rounds/*/*")}
  assert {str(path.relative_to(copy)) for path in copy.glob("rounds/*/*")} == results
  for result in results:
    if result.endswith(TIMED):
      assert read_json(copy / result)["updates"] == read_json(whole / result)["updates"]
    elif not result.endswith("checksums.json"):
      assert (copy / result).read_bytes() == (whole / result).read_bytes(), result
  assert checksums_of_players(copy) == checksums_of_players(whole)
  assert (copy / "report.html").exists() and not (copy / "owner.json").exists()


@pytest.mark.slow
def test_a_run_in_a_bucket_that_fails_and_is_killed_is_the_run_here(faulty, tmp_path):
  """Three times SIGKILL, and once a second owner, who is refused."""
  log = tmp_path / "log"
  for number, reached in enumerate(REACHED):
    process = start(faulty, log)
    try:
      if number == 1:
        wait_for(faulty, "rounds/00/supervised.json", process, log)
        other = tmp_path / "other"
        assert start(faulty, other).wait(timeout=600) == 2
        said = other.read_text().splitlines()
        assert len(said) == 1 and f"which process {process.pid} of " in said[0], said
      wait_for(faulty, reached, process, log)
    finally:
      process.send_signal(signal.SIGKILL)
      process.wait()
    assert "owner.json" in faulty.names(DIRECTORY)
  assert start(faulty, log).wait(timeout=900) == 0, log.read_text()
  assert f"The run is in {RUN_DIR}" in log.read_text()
  brought_here(faulty, tmp_path / "copy")
  check_alike(tmp_path / "copy")
  assert all(faulty.faults.happened[name] for name in FAULTS), faulty.faults.happened
