"""Who is silent, told without waiting; and the way to the coordinator, over real sockets."""

import socket
import threading
import time

import pytest

from apo_jax.devices import watch
from apo_jax.devices.relay import Relay
from apo_jax.devices.watch import Silences, Watch


def test_the_longest_silence_is_of_the_one_that_stopped():
  silences = Silences((1, 2))
  for beat in range(1, 5):
    assert silences.after(0.5, {1: beat, 2: beat})[1] == 0.0
  for beat in range(5, 8):
    longest = silences.after(0.5, {1: beat, 2: 4})
  assert longest == (2, 1.5)
  assert silences.after(0.5, {1: 8, 2: 5})[1] == 0.0  # it goes on


def test_a_process_that_never_spoke_is_silent():
  silences = Silences((1, 2))
  silences.after(0.5, {1: 1})
  assert silences.after(0.5, {1: 2}) == (2, 1.0)


def test_a_relay_passes_bytes_on_and_hides_the_end_of_the_other_side():
  with socket.create_server(("127.0.0.1", 0)) as coordinator:
    relay = Relay(f"127.0.0.1:{coordinator.getsockname()[1]}")
    with socket.socket(socket.AF_UNIX) as client:
      client.settimeout(10)
      client.connect(relay.address.removeprefix("unix:"))
      server, _ = coordinator.accept()
      server.settimeout(10)
      client.sendall(b"a" * 100_000)
      received = b""
      while len(received) < 100_000:
        received += server.recv(1 << 16)
      assert received == b"a" * 100_000
      server.sendall(b"answer")
      assert client.recv(100) == b"answer"
      assert relay.answered.is_set() and not relay.broken.is_set()
      server.close()
      assert relay.broken.wait(10)
      client.settimeout(0.2)
      with pytest.raises(TimeoutError):
        client.recv(1)  # of a socket that was closed it would be empty


def test_a_relay_waits_for_a_coordinator_that_starts_late():
  with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    port = found.getsockname()[1]
  relay = Relay(f"127.0.0.1:{port}")
  with socket.socket(socket.AF_UNIX) as client:
    client.connect(relay.address.removeprefix("unix:"))
    client.sendall(b"early")
    accepted = []
    with socket.create_server(("127.0.0.1", port)) as coordinator:
      thread = threading.Thread(target=lambda: accepted.append(coordinator.accept()[0]))
      thread.start()
      thread.join(10)
      accepted[0].settimeout(10)
      assert accepted[0].recv(5) == b"early"


class Store:
  """The coordinator's key-value store, in memory."""

  def __init__(self):
    self.held = {}

  def key_value_set(self, key, value, allow_overwrite):
    assert allow_overwrite
    self.held[key] = value

  def key_value_try_get(self, key):
    if key not in self.held:
      raise RuntimeError(f"NOT_FOUND: {key}")
    return self.held[key]

  def key_value_dir_get(self, prefix):
    return [(key, value) for key, value in list(self.held.items()) if key.startswith(f"{prefix}/")]


def test_work_begins_when_the_hosts_are_known(monkeypatch):
  """Who is gone a moment later is named by its host."""
  monkeypatch.setattr(watch, "SECONDS_TO_SUSPECT", 2.0)
  store = Store()
  first, second = (Watch(store, process, 2, None) for process in (0, 1))
  starting = [threading.Thread(target=one.start) for one in (second, first)]
  starting[0].start()
  starting[0].join(0.3)
  assert starting[0].is_alive()  # nothing is known of the first yet
  starting[1].start()
  for one in starting:
    one.join(20)
    assert not one.is_alive()
  assert [first._host_of(1), second._host_of(0)] == [socket.gethostname()] * 2
  # An error of what was done together is told when the first has had the time to find who is gone.
  began, beat = time.monotonic(), first._news.beat
  second.suspect()
  assert first._news.beat - beat >= watch.SECONDS_TO_SUSPECT / 0.5
  assert time.monotonic() - began > 0.8 * watch.SECONDS_TO_SUSPECT
  second._say(suspects=False)
  ending = [threading.Thread(target=one.finish) for one in (first, second)]
  for one in ending:
    one.start()
  for one in ending:
    one.join(20)
    assert not one.is_alive()
