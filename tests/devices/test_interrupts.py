import os
import signal
import time

import pytest

from apo_jax.devices import interrupts


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
      assert not interrupts.asked()
      signal.raise_signal(signal.SIGTERM)
      assert interrupts.asked()
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
      assert not interrupts.asked()
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
