"""Processes that are joined for real, and what ends one of them: by signals, errors, refusals."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import tiny

GONE = "it was killed, stopped or cut off. This process ends too; what is finished is kept"
ENDED = "apo_jax: Ended by {}; what is finished is kept, and the same command goes on.\n"


def free_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def start(folder, phase, processes):
  """The processes of `tests/devices/joined.py`."""
  address = f"127.0.0.1:{free_port()}"
  command = [sys.executable, "-m", "tests.devices.joined", folder, phase, address, str(processes)]
  return [
    subprocess.Popen(
      [*command, str(index)], cwd=tiny.ROOT, stderr=subprocess.PIPE, text=True, env=environment()
    )
    for index in range(processes)
  ]


def environment():
  return {**tiny.users_environment(), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(tiny.ROOT)}


def play(folder, phase, processes, number=None, victims=()):
  """Starts them, signals the victims when all are at work; codes and what the rest said."""
  started = start(folder, phase, processes)
  try:
    if number is not None:
      deadline = time.monotonic() + 120
      while len(list(folder.glob("reached_*"))) < processes and time.monotonic() < deadline:
        time.sleep(0.05)
      for victim in victims:
        started[victim].send_signal(number)
    gone = victims if number in (signal.SIGKILL, signal.SIGSTOP) else ()
    rest = [one for index, one in enumerate(started) if index not in gone]
    # A minute, and what a busy machine takes.
    said = [one.communicate(timeout=120)[1] for one in rest]
    return [one.returncode for one in rest], said
  finally:
    for one in started:
      one.kill()
      one.communicate()


def saved(folder, processes):
  return {(folder / f"saved_{index}").read_text() for index in range(processes)}


def test_a_signal_to_one_has_all_save_behind_one_update(tmp_path):
  codes, said = play(tmp_path, "updates", 2, signal.SIGTERM, [1])
  assert codes == [75, 75]
  assert said == [ENDED.format("SIGTERM")] * 2
  assert len(saved(tmp_path, 2)) == 1


@pytest.mark.slow
def test_ctrl_c_to_all_of_four_is_one(tmp_path):
  codes, said = play(tmp_path, "updates", 4, signal.SIGINT, range(4))
  assert codes == [130] * 4
  assert said == [ENDED.format("SIGINT")] * 4
  assert len(saved(tmp_path, 4)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["together", "idle"])
def test_where_there_is_nothing_to_save_all_end_at_once(tmp_path, phase):
  codes, said = play(tmp_path, phase, 2, signal.SIGTERM, [1])
  assert (codes, said) == ([75, 75], [ENDED.format("SIGTERM")] * 2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize(
  ("phase", "processes", "victim"), [("updates", 4, 2), ("updates", 2, 0), ("idle", 2, 1)]
)
def test_one_that_is_gone_is_named_by_all_others(tmp_path, number, phase, processes, victim):
  codes, said = play(tmp_path, phase, processes, number, [victim])
  assert codes == [75] * (processes - 1)
  for one in said:
    lines = one.splitlines()
    assert len(lines) == 1, one
    assert lines[0].startswith(f"apo_jax: Process {victim} on {os.uname().nodename} has ")
    assert GONE in lines[0]


@pytest.mark.slow
def test_one_that_is_refused_or_fails_ends_all_with_its_sentence(tmp_path):
  codes, said = play(tmp_path, "refusing", 2)
  assert codes == [2, 2]
  assert said[0].endswith("has ended: data.path is 'x', and there is no such file.\n")
  codes, said = play(tmp_path, "failing", 2)
  assert codes == [1, 1]
  assert said[0].endswith("has ended: ZeroDivisionError: of this process alone\n")
  assert said[1].splitlines()[-1] == "ZeroDivisionError: of this process alone"


@pytest.mark.slow
def test_one_that_is_done_waits_for_the_others(tmp_path):
  assert play(tmp_path, "finishing", 2) == ([0, 0], ["", ""])


@pytest.mark.slow
def test_one_that_is_refused_before_it_joins_ends_those_that_wait(tmp_path):
  """A config file that is missing on one host."""
  address = f"127.0.0.1:{free_port()}"
  common = [f"--coordinator_address={address}", "--num_processes=2", f"--run_dir={tmp_path}"]
  started = [
    subprocess.Popen(
      [
        sys.executable,
        "-m",
        "apo_jax.main",
        f"--config={config}",
        *common,
        f"--process_id={index}",
      ],
      cwd=tiny.ROOT,
      stderr=subprocess.PIPE,
      text=True,
      env=environment(),
    )
    for index, config in enumerate((tiny.TWIN_DEMO, "configs/missing.py"))
  ]
  said = [one.communicate(timeout=120)[1] for one in started]
  assert [one.returncode for one in started] == [2, 2]
  sentence = "--config is 'configs/missing.py', and there is no such file.\n"
  assert said[1] == f"apo_jax: {sentence}"
  assert said[0].endswith(f"has ended: {sentence}") and len(said[0].splitlines()) == 1
