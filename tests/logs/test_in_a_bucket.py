"""Files, metrics, the lock and refusals in a bucket that fails, without a game."""

import json
import os
import threading
import time

import numpy as np
import pytest

from apo_jax.config.base import to_json
from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import TrainingConfig
from apo_jax.logs import files, metric_lines, places
from apo_jax.logs.metrics import MetricsWriter, read_metrics
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.logs.storage import problem_of
from apo_jax.phases.failed_batch import advice, keep_batch, last_failure, read_batch, same_arrays
from apo_jax.run import bucket_lock, owner
from apo_jax.run.config_file import get_config
from apo_jax.run.phase_inputs import PhaseName
from apo_jax.run.players import Player
from apo_jax.run.records import find_damage, record_phase
from tests import tiny

bucket = pytest.importorskip("tests.bucket", reason="needs gcsfs and gcp-storage-emulator")


@pytest.fixture(scope="module")
def served():
  with pytest.MonkeyPatch.context() as patched, bucket.served() as one:
    for name, value in one.environment().items():
      patched.setenv(name, value)
    yield one


@pytest.fixture
def run_dir(served, request):
  name = request.node.name.replace("[", "-").replace("]", "")
  found = places.find_place(f"gs://{bucket.NAME}/{name}", "--run_dir")
  yield found
  for share in ("unavailable", "lost", "lost_answers", "slow"):
    setattr(served.faults, share, 0.0)


def writer(run_dir):
  return MetricsWriter(
    run_dir, tensorboard=False, wandb=False, wandb_project="", config={}, enabled=True
  )


def steps(run_dir):
  return [(row["phase"], row["step"]) for row in read_metrics(run_dir)]


def test_a_file_is_there_whole_or_not_at_all(served, run_dir):
  path = run_dir / "rounds/01/samples.jsonl"
  files.write_jsonl(path, [{"text": "ä\u2028b"}])

  def broken():
    yield {"text": "half"}
    raise RuntimeError("in the middle")

  with pytest.raises(RuntimeError):
    files.write_jsonl(path, broken())
  assert files.read_jsonl(path) == [{"text": "ä\u2028b"}]
  assert served.names(run_dir.name) == ["rounds/01/samples.jsonl"]
  with pytest.raises(FileNotFoundError):
    files.read_json(run_dir / "nothing.json")
  assert len(files.file_sha256(path)) == 64


def test_every_byte_is_written(run_dir):
  """Also of what looks like the end of a request."""
  for content in (b"", b"\r", b"a\r\n", b"\0\r\r", b"a\n--==0==\nb", b"a\r\n--==0==--\r\nb"):
    files.write_bytes(run_dir / "a", content)
    assert (run_dir / "a").read_bytes() == content


def test_what_fails_now_and_then_is_tried_again(served, run_dir):
  served.faults.unavailable = served.faults.lost = served.faults.lost_answers = 0.1
  for number in range(10):
    files.write_json(run_dir / f"{number}.json", {"number": number})
  assert [files.read_json(run_dir / f"{number}.json")["number"] for number in range(10)] == [
    *range(10)
  ]
  assert served.faults.happened["lost_answers"]


def test_metrics_are_segments_that_read_as_one(served, run_dir):
  with writer(run_dir) as one:
    one.write({"loss": float("nan")}, round=0, phase="supervised", step=1)
    assert steps(run_dir) == []  # nothing says yet that it was made
    one.sync()
    one.sync()
    assert steps(run_dir) == [("supervised", 1)]
    one.write({"loss": 2.0}, round=0, phase="supervised", step=2)
  assert served.names(run_dir.name) == ["metrics/000001.jsonl", "metrics/000002.jsonl"]
  assert read_metrics(run_dir)[0]["loss"] is None
  with writer(run_dir) as again:
    again.resume(round=0, phase="supervised", step=1)
    again.write({"loss": 2.5}, round=0, phase="supervised", step=2)
    again.write({"loss": 3.0}, round=0, phase="supervised", step=3)
  assert steps(run_dir) == [("supervised", 1), ("supervised", 2), ("supervised", 3)]
  assert [row["loss"] for row in read_metrics(run_dir)] == [None, 2.5, 3.0]


def test_lines_are_seen_after_a_while_without_a_checkpoint(run_dir, monkeypatch):
  monkeypatch.setattr(metric_lines, "_SECONDS_BETWEEN_SEGMENTS", 0.0)
  with writer(run_dir) as one:
    one.write({"loss": 1.0}, round=0, phase="supervised", step=1)
    assert steps(run_dir) == [("supervised", 1)]


def test_a_broken_line_of_a_segment_is_dropped_and_counted(run_dir):
  row = {"time": 1.0, "round": 0, "phase": "supervised", "step": 1}
  files.write_text(run_dir / "metrics/000001.jsonl", json.dumps(row) + "\n{broken\n")
  with writer(run_dir) as one:
    assert one.mended == 1
  assert steps(run_dir) == [("supervised", 1)]


def test_a_run_that_was_copied_out_of_a_bucket_or_into_one_keeps_its_lines(run_dir, tmp_path):
  with writer(run_dir) as one:
    one.write({"loss": 1.0}, round=0, phase="supervised", step=1)
  (tmp_path / "metrics").mkdir()
  copied = (run_dir / "metrics/000001.jsonl").read_bytes()
  (tmp_path / "metrics/000001.jsonl").write_bytes(copied)
  assert steps(tmp_path) == [("supervised", 1)]
  with writer(tmp_path) as here:
    here.write({"loss": 2.0}, round=0, phase="supervised", step=2)
  # As if it had been stopped before it deleted what it took in.
  (tmp_path / "metrics").mkdir()
  (tmp_path / "metrics/000001.jsonl").write_bytes(copied)
  assert steps(tmp_path) == [("supervised", 1), ("supervised", 2)]
  back = run_dir / "back"
  files.write_bytes(back / "metrics.jsonl", (tmp_path / "metrics.jsonl").read_bytes())
  with writer(back) as there:
    there.write({"loss": 3.0}, round=0, phase="supervised", step=3)
    there.resume(round=0, phase="supervised", step=1)
  assert steps(back) == [("supervised", 1)]


def test_lines_of_a_finished_phase_have_hashes(run_dir):
  directory, name = RunDirectory(run_dir), PhaseName(1, "score.json")
  with writer(run_dir) as one:
    one.write({"share": 0.1, "norm": float("nan")}, round=1, phase="score", step=1)
    one.sync()
    assert one.of_round(1) == read_metrics(run_dir)
    files.write_json(directory.round(1) / name.result, {})
    record_phase(directory, name, one.of_round(1))
  assert find_damage(directory, [name], None) == []
  segment = directory.metrics_segments / "000001.jsonl"
  whole = segment.read_text()
  for content in (whole.replace("0.1", "0.2"), "{broken\n"):
    files.write_text(segment, content)
    found = find_damage(directory, [name], None)[0]
    assert found.path == directory.metrics_segments and found.problem == "has changed since"
  segment.unlink()
  assert find_damage(directory, [name], None)[0].problem == "is gone"


def test_a_failed_batch_is_kept_and_told_of(run_dir):
  directory, player = RunDirectory(run_dir), Player("policy", 2)
  batch = {"rows": np.arange(6).reshape(2, 3), "rewards": np.array([0.5, np.nan])}
  keep_batch(directory, player, 3, {"loss": float("nan")}, batch)
  assert last_failure(directory).update == 3
  assert same_arrays(read_batch(directory, player, batch), batch)
  said = advice(directory, player, TrainingConfig(), "config.policy.training")
  assert f"replay --run={run_dir}`" in said
  assert f"--run={run_dir} --from=1 --run_dir={run_dir.name}-from-1 " in said  # made here


def test_the_config_of_a_run_is_read_from_there(run_dir):
  files.write_json(run_dir / "config.json", to_json(tiny.config()))
  # As `main` and `branch` have it: one word behind the name of a file.
  assert get_config(f"--run_dir={run_dir}").policy.loss == tiny.config().policy.loss.name
  with pytest.raises(ConfigError, match=rf"--run is '{run_dir}/none', which holds no config.json"):
    get_config(f"--run={run_dir}/none")


def test_a_directory_is_copied_here_and_deleted(run_dir, tmp_path):
  files.write_text(run_dir / "tokenizer/vocab.json", "{}")
  files.write_text(run_dir / "tokenizer/inner/more.json", "{}")
  copy = places.local_copy(run_dir / "tokenizer")
  assert [path.name for path in copy.iterdir()] == ["vocab.json"]
  places.copy_here(run_dir / "tokenizer", tmp_path / "all")
  assert places.sizes_below(tmp_path / "all") == {
    tmp_path / "all/vocab.json": 2,
    tmp_path / "all/inner/more.json": 2,
  }
  places.remove_tree(run_dir / "tokenizer")
  places.remove_tree(run_dir / "tokenizer")
  assert not (run_dir / "tokenizer").exists()
  with pytest.raises(FileNotFoundError, match="tokenizer is gone"):
    places.copy_here(run_dir / "tokenizer", tmp_path / "none")


def test_runs_are_found_below_a_folder(run_dir):
  for name in ("a/rounds/00/x.json", "b/c/rounds/00/x.json"):
    files.write_text(run_dir / name, "{}")
  found = []
  for directory, inner in places.directories_below(run_dir):
    if (directory / "rounds").is_dir():
      found.append(directory.name)
      inner.clear()
  assert sorted(found) == ["a", "c"]


def test_a_bucket_that_is_not_there_is_a_sentence(served):
  with pytest.raises(ConfigError, match=r"--run is 'gs://none/a', .* there is no such bucket"):
    places.find_place("gs://none/a", "--run")


def test_one_that_does_not_answer_is_a_sentence(served, run_dir, monkeypatch):
  monkeypatch.setattr(places, "_SECONDS_TO_ANSWER", 1.0)
  served.faults.unavailable = 1.0
  with pytest.raises(ConfigError, match=r"cannot be read: it does not answer; .*503"):
    places.find_place(str(run_dir), "--run_dir")


def test_errors_of_buckets_are_told_as_such(run_dir):
  for error in (
    OSError("Forbidden: b/o"),
    ValueError("Error writing gs://bucket/runs/checkpoints: no"),
  ):
    assert f"{run_dir} cannot be read or written" in problem_of(error, run_dir)
  assert problem_of(KeyError("something of ours"), run_dir) is None


def test_a_bucket_that_is_read_while_results_are_written_here_is_told_of(tmp_path):
  import gcsfs
  from google.api_core.exceptions import ServiceUnavailable

  for error in (gcsfs.retry.HttpError({"code": 503}), ServiceUnavailable("later")):
    assert "A bucket cannot be read" in problem_of(error, tmp_path)
  assert problem_of(KeyError("gs://bucket/something-of-ours"), tmp_path) is None


@pytest.fixture
def hurried(monkeypatch):
  monkeypatch.setattr(owner, "SECONDS_BETWEEN_TOUCHES", 0.1)
  monkeypatch.setattr(bucket_lock, "SECONDS_UNTIL_GONE", 1.5)
  monkeypatch.setattr(bucket_lock, "_SECONDS_TO_CONFIRM", 0.01)


def elsewhere(path, token="t"):
  """The lock of a process of another machine."""
  owner = {"host": "node7", "space": "another", "process": 12, "began": 3, "since": "noon"}
  files.write_json(path, {**owner, "token": token})


def test_a_lock_names_its_owner_and_is_gone_behind_it(served, run_dir, hurried):
  path = run_dir / "owner.json"
  with bucket_lock.owned(path, print):
    assert files.read_json(path)["process"] == os.getpid()
    said = rf"in which process {os.getpid()} of .* plays; wait"
    with pytest.raises(ConfigError, match=said), bucket_lock.owned(path, print):
      pass
  assert served.names(run_dir.name) == []


def test_the_lock_of_another_machine_is_watched_until_it_is_old(served, run_dir, hurried):
  path, said = run_dir / "owner.json", []
  elsewhere(path)
  with bucket_lock.owned(path, said.append):
    assert files.read_json(path)["process"] == os.getpid()
  assert len(said) == 1 and "belongs to process 12 of node7" in said[0]
  assert served.names(run_dir.name) == []  # what told the bucket's time is gone too


def test_the_lock_of_another_machine_that_lives_is_refused(run_dir, hurried):
  path, stop = run_dir / "owner.json", threading.Event()
  elsewhere(path)

  def touch():
    while not stop.wait(0.1):
      elsewhere(path)

  thread = threading.Thread(target=touch)
  thread.start()
  try:
    with pytest.raises(ConfigError, match="process 12 of node7"), bucket_lock.owned(path, str):
      pass
  finally:
    stop.set()
    thread.join()


def test_of_several_that_take_a_lock_at_once_one_has_it(served, run_dir, hurried, monkeypatch):
  """By the condition alone: none waits to see whether another came."""
  monkeypatch.setattr(bucket_lock, "known_to_live", lambda owner: True)
  served.faults.lost_answers = served.faults.unavailable = 0.1
  path, taken, refused = run_dir / "owner.json", [], []
  ready, end = threading.Barrier(4), threading.Event()

  def take():
    ready.wait()
    try:
      with bucket_lock.owned(path, str):
        taken.append(1)
        end.wait(30)
    except ConfigError:
      refused.append(1)

  threads = [threading.Thread(target=take) for _ in range(4)]
  for thread in threads:
    thread.start()
  deadline = time.monotonic() + 30
  while len(taken) + len(refused) < 4 and time.monotonic() < deadline:
    time.sleep(0.05)
  end.set()
  for thread in threads:
    thread.join()
  assert (len(taken), len(refused)) == (1, 3)


def test_an_owner_that_was_replaced_ends(run_dir, hurried, monkeypatch):
  class Ended(BaseException):
    pass

  def ended(path, owner):
    said.append(owner.token)
    raise Ended

  said = []
  monkeypatch.setattr(bucket_lock, "taken_over", ended)
  monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
  path = run_dir / "owner.json"
  with bucket_lock.owned(path, str):
    elsewhere(path, "another")
    deadline = time.monotonic() + 20
    while not said and time.monotonic() < deadline:
      time.sleep(0.05)
  assert said == ["another"]
  assert files.read_json(path)["token"] == "another"  # it is the other's, and stays


def test_an_owner_writes_its_lock_again_and_again(served, run_dir, hurried):
  path = run_dir / "owner.json"

  def generation():
    return served.storage.get_file_obj(bucket.NAME, f"{run_dir.name}/owner.json")["generation"]

  with bucket_lock.owned(path, str):
    first, deadline = generation(), time.monotonic() + 20
    while generation() == first and time.monotonic() < deadline:
      time.sleep(0.05)
    assert generation() != first
