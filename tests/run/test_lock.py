"""One run at a time in a directory, whoever started it and however it ended."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.logs.files import read_json, write_json
from apo_jax.run import lock, owner
from tests.tiny import ROOT

HOLD = (
  "import pathlib, sys, time; from apo_jax.run.lock import owned\n"
  "with owned(pathlib.Path(sys.argv[1]), print):\n"
  "  print('owned', flush=True); time.sleep(60)"
)


@pytest.fixture
def path(tmp_path):
  return tmp_path / "owner.json"


@pytest.fixture
def hurried(monkeypatch):
  monkeypatch.setattr(owner, "SECONDS_BETWEEN_TOUCHES", 0.05)
  monkeypatch.setattr(lock, "SECONDS_UNTIL_GONE", 0.6)


def elsewhere(path, **changes):
  """A lock of a process of another machine."""
  fields = {"host": "node7", "space": "another", "process": 12, "began": 3, "since": "noon"}
  write_json(path, {**fields, "token": "t", **changes})


def test_it_names_its_owner_and_is_gone_behind_it(path):
  with lock.owned(path, print):
    owner = read_json(path)
    assert owner["process"] == os.getpid() and owner["host"]
    said = rf"in which process {os.getpid()} of .* plays; wait"
    with pytest.raises(ConfigError, match=said), lock.owned(path, print):
      pass
    assert read_json(path) == owner
  assert list(path.parent.iterdir()) == []


def test_that_of_a_killed_process_is_taken_over_at_once(path):
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
  )
  assert process.stdout.readline() == "owned\n"
  with pytest.raises(ConfigError, match=f"process {process.pid} "), lock.owned(path, print):
    pass
  process.kill()
  process.wait()
  assert path.exists()
  said = []
  with lock.owned(path, said.append):
    assert read_json(path)["process"] == os.getpid()
  assert not said


def test_a_process_with_an_id_that_was_given_again_is_another(path):
  with lock.owned(path, print):
    mine = read_json(path)
  write_json(path, {**mine, "began": mine["began"] - 1})
  with lock.owned(path, print):
    assert read_json(path)["began"] == mine["began"]


def test_another_machine_s_is_watched_until_it_is_old(path, hurried):
  elsewhere(path)
  said, began = [], time.monotonic()
  with lock.owned(path, said.append):
    assert 0.3 < time.monotonic() - began < 20
    assert read_json(path)["process"] == os.getpid()
  assert len(said) == 1 and "belongs to process 12 of node7, since noon; waiting" in said[0]
  elsewhere(path)
  os.utime(path, (1, 1))
  with lock.owned(path, said.append):
    assert len(said) == 1  # old enough to begin with


def test_another_machine_s_that_is_touched_is_alive(path, hurried):
  elsewhere(path)
  touching = threading.Event()

  def touch():
    while not touching.wait(0.05):
      os.utime(path)

  thread = threading.Thread(target=touch)
  thread.start()
  try:
    with pytest.raises(ConfigError, match="process 12 of node7"), lock.owned(path, lambda _: None):
      pass
  finally:
    touching.set()
    thread.join()
  assert read_json(path)["process"] == 12


def test_an_owner_touches_it_as_long_as_it_lives(path, hurried):
  with lock.owned(path, print):
    os.utime(path, (1, 1))
    deadline = time.monotonic() + 20
    while path.stat().st_mtime == 1:
      assert time.monotonic() < deadline
      time.sleep(0.02)


NUMBERS = json.dumps(dict.fromkeys(lock.Owner._fields, 1))


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"host": "node7"}', NUMBERS, "\0" * 40])
def test_a_damaged_one_keeps_nobody_out(path, content):
  path.write_text(content)
  with lock.owned(path, print):
    assert read_json(path)["process"] == os.getpid()


def test_without_hard_links_it_is_taken_too(path, monkeypatch):
  def refuse(source, target):
    raise PermissionError

  monkeypatch.setattr("os.link", refuse)
  with lock.owned(path, print):
    assert read_json(path)["process"] == os.getpid()
    with pytest.raises(ConfigError, match="plays; wait"), lock.owned(path, print):
      pass
