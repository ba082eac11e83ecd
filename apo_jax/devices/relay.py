"""The way to the coordinator, through this process: JAX never sees the connection break.

JAX ends a process by an abort, with a report of its C++ layer, as soon as its connection to process
0 breaks. Nothing of that can be set. A process therefore talks with the coordinator through a
socket of its own, which stays open: what is done where the other side is gone is `watch.py`'s.
"""

import contextlib
import functools
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jax._src import distributed as jax_distributed

_SECONDS_TO_CONNECT = 10.0
_SECONDS_BETWEEN_TRIES = 0.3
_AT_ONCE = 1 << 16


class Relay:
  """A local socket, of which every connection goes on to the coordinator.

  Attributes:
    answered: set where the coordinator was reached.
    broken: set where the coordinator's side of a connection has ended.
    address: of the local socket, for gRPC.
  """

  def __init__(self, coordinator_address: str) -> None:
    host, _, port = coordinator_address.rpartition(":")
    self.answered, self.broken = threading.Event(), threading.Event()
    self._target = (host.strip("[]"), int(port))
    self._folder = tempfile.TemporaryDirectory(prefix="apo_jax_")
    path = Path(self._folder.name) / "coordinator"
    self.address = f"unix:{path}"
    self._listener = socket.socket(socket.AF_UNIX)
    self._listener.bind(str(path))
    self._listener.listen()
    # Kept: a socket that is forgotten is closed, which JAX would see.
    self._open: list[socket.socket] = []
    _start(self._serve)

  def _serve(self) -> None:
    while True:
      inner, _ = self._listener.accept()
      self._open.append(inner)
      _start(functools.partial(self._connect, inner))

  def _connect(self, inner: socket.socket) -> None:
    while True:
      try:
        outer = socket.create_connection(self._target, timeout=_SECONDS_TO_CONNECT)
        break
      except OSError:  # process 0 has not started yet; JAX says when it has waited long enough
        time.sleep(_SECONDS_BETWEEN_TRIES)
    self.answered.set()
    outer.settimeout(None)
    outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    self._open.append(outer)
    _start(functools.partial(_copy, inner, outer, lambda: None))
    _start(functools.partial(_copy, outer, inner, self.broken.set))


def _copy(source: socket.socket, target: socket.socket, ended: Callable[[], None]) -> None:
  with contextlib.suppress(OSError):
    while data := source.recv(_AT_ONCE):
      target.sendall(data)
  ended()


def _start(work: Callable[[], None]) -> None:
  threading.Thread(target=work, daemon=True).start()


@contextlib.contextmanager
def relayed() -> Iterator[list[Relay]]:
  """While the block runs, the client that JAX makes goes through a relay.

  It gives the list that the relay is put into; in process 0, which has the coordinator, it stays
  empty. JAX finds the coordinator's address itself in a cluster, so that it is seen here alone.
  """
  made: list[Relay] = []
  module = jax_distributed._jax
  make_client = module.get_distributed_runtime_client

  def through_a_relay(address: str, process: int, *rest: Any, **options: Any) -> Any:
    if process:
      made.append(Relay(address))
      address = made[0].address
    return make_client(address, process, *rest, **options)

  module.get_distributed_runtime_client = through_a_relay
  try:
    yield made
  finally:
    module.get_distributed_runtime_client = make_client
