import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from jax.experimental import multihost_utils

from apo_jax.devices import interrupts
from apo_jax.devices.notes import SAVING


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_what_runs_with_a_code_of_its_own(number, code):
  before = signal.getsignal(number)
  with pytest.raises(interrupts.Interrupted, match=number.name) as found, interrupts.listening():
    signal.raise_signal(number)
    raise AssertionError
  assert found.value.code == code
  assert signal.getsignal(number) is before


def test_where_there_is_something_to_save_it_is_noted():
  reached = []
  with pytest.raises(interrupts.Interrupted), interrupts.listening():
    interrupts.check()
    with interrupts.deferred():
      assert interrupts.asked() is None and not interrupts.stops_at(1)
      signal.raise_signal(signal.SIGTERM)
      assert interrupts.asked() == signal.SIGTERM and interrupts.stops_at(2)
      reached.append("saved")
    reached.append("behind the block")
  assert reached == ["saved"]


def test_an_error_is_not_hidden_by_a_signal():
  with pytest.raises(ZeroDivisionError), interrupts.listening(), interrupts.deferred():
    signal.raise_signal(signal.SIGTERM)
    raise ZeroDivisionError


def test_each_run_listens_anew():
  for _ in range(2):
    with pytest.raises(interrupts.Interrupted), interrupts.listening():
      assert interrupts.asked() is None
      signal.raise_signal(signal.SIGTERM)


def test_what_handles_any_error_does_not_take_it_for_one():
  with pytest.raises(interrupts.Interrupted), interrupts.listening():
    try:
      signal.raise_signal(signal.SIGTERM)
    except Exception:
      pytest.fail("a damaged file, say")


def test_a_signal_in_a_finalizer_is_not_lost(capsys):
  """What is raised there Python reports and ignores: JAX's callback of the collector is such."""

  class Ended:
    def __del__(self):
      os.kill(os.getpid(), signal.SIGTERM)
      for _ in range(10_000):
        pass

  began = time.monotonic()
  with pytest.raises(interrupts.Interrupted), interrupts.listening():
    one = Ended()
    del one
    time.sleep(10)
  assert time.monotonic() - began < 5
  assert capsys.readouterr().err == ""


def test_jaxs_notice_of_a_preemption_is_one(monkeypatch):
  monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: step == 3)
  with (
    pytest.raises(interrupts.Interrupted) as found,
    interrupts.listening(),
    interrupts.deferred(),
  ):
    for step in range(1, 9):
      if interrupts.stops_at(step):
        interrupts.check()
  assert step == 3 and found.value.code == 75


@pytest.fixture
def one_of_several(monkeypatch):
  """This process as one of several, whose watch is played by the test."""
  state = type("State", (interrupts._State,), {"several": True})
  monkeypatch.setattr(interrupts, "_State", state)


def test_of_several_processes_one_that_knows_waits_for_what_all_do(one_of_several):
  """The others save behind update 6; this one was asked behind update 4."""
  saved, stood_at = [], []

  def watch():
    while interrupts.position() is None:
      time.sleep(0.01)
    stood_at.append(interrupts.position())
    interrupts.decided(signal.SIGTERM, 6)

  with pytest.raises(interrupts.Interrupted), interrupts.deferred():
    for step in range(1, 9):
      if step == 5:
        interrupts.decided(signal.SIGTERM, None)
        threading.Thread(target=watch).start()
      if interrupts.stops_at(step):
        saved.append(step)
        assert interrupts.position() == SAVING
        interrupts.check()
  assert stood_at == [4] and saved == [6]


def test_of_several_processes_none_ends_alone(one_of_several):
  interrupts.decided(signal.SIGTERM, None)
  interrupts.check()  # between phases it is the watch that ends all
  assert interrupts.position() is None


def test_a_main_thread_that_is_kept_by_a_compiler_is_ended_all_the_same():
  """Python's handlers wait for it; a sleep in C stands for the compiler."""
  program = (
    "import ctypes, os, signal, sys; from apo_jax.devices import interrupts\n"
    "interrupts._SECONDS_FOR_THE_MAIN_THREAD = 0.5\n"
    "with interrupts.listening():\n"
    "  print('ready', flush=True)\n"
    "  deadline = __import__('time').monotonic() + 30\n"
    "  while __import__('time').monotonic() < deadline: ctypes.CDLL(None).sleep(30)\n"
  )
  # A sleep is cut short by a signal of its own thread; another one is given it.
  program = program.replace(
    "  print('ready'",
    "  signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n  print('ready'",
  )
  command = [sys.executable, "-c", program]
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
    assert one.stdout.readline() == "ready\n"
    time.sleep(1)  # until it is in C
    one.terminate()
    _, said = one.communicate(timeout=20)
  assert one.returncode == 75
  assert (
    said == "apo_jax: Ended by SIGTERM; what is finished is kept, and the same command goes on.\n"
  )
