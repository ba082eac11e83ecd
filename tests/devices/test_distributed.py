import sys

import jax
import pytest

from apo_jax.devices import distributed


@pytest.fixture
def calls(monkeypatch):
  recorded = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda **given: recorded.append(given))
  monkeypatch.setattr(sys, "excepthook", sys.excepthook)
  return recorded


def test_one_process_joins_nothing(calls):
  hook = sys.excepthook
  distributed.initialize(None, None, None, auto=False)
  assert calls == []
  assert sys.excepthook is hook


def test_auto_leaves_everything_to_jax(calls):
  distributed.initialize(None, None, None, auto=True)
  assert calls == [{}]


@pytest.mark.parametrize("auto", [False, True])
def test_explicit_arguments_win_over_the_cluster(calls, auto):
  distributed.initialize("10.0.0.1:1234", 4, 3, auto=auto)
  assert calls == [
    {
      "coordinator_address": "10.0.0.1:1234",
      "num_processes": 4,
      "process_id": 3,
      "cluster_detection_method": "deactivate",
    }
  ]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("10.0.0.1:1234", None, None), "num_processes and process_id must be given too"),
    ((None, 2, 0), "coordinator_address must be given too, beside num_processes 2, process_id 0"),
    (("10.0.0.1:1234", 2, None), "process_id must be given too"),
    (("10.0.0.1:1234", 2, 2), "process_id is 2; it must be from 0 to 1"),
    (("10.0.0.1:1234", 2, -1), "process_id is -1; it must be from 0 to 1"),
    (("10.0.0.1:1234", 0, 0), "num_processes is 0; it must be at least 1"),
    (("10.0.0.1", 2, 0), "coordinator_address is '10.0.0.1'; it must be host:port"),
    ((":1234", 2, 0), "coordinator_address is ':1234'; it must be host:port"),
  ],
)
@pytest.mark.parametrize("auto", [False, True])
def test_arguments_that_do_not_fit_are_named(calls, arguments, message, auto):
  with pytest.raises(ValueError, match=message):
    distributed.initialize(*arguments, auto=auto)
  assert calls == []


def test_auto_without_a_cluster_says_what_to_give(monkeypatch):
  def no_cluster():
    raise ValueError("coordinator_address should be defined.")

  monkeypatch.setattr(jax.distributed, "initialize", no_cluster)
  with pytest.raises(ValueError, match=r"found no cluster .* give coordinator_address"):
    distributed.initialize(None, None, None, auto=True)
