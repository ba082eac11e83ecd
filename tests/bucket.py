"""A bucket on this machine: an emulator of Google Cloud Storage that holds conditions and fails.

`gcp-storage-emulator` answers the API from memory, but takes conditional writes for plain ones,
does not say the generation of what it sends and forgets an upload that is finished: here it does as
the service does. On request some answers are 503s, late or lost.
"""

import contextlib
import dataclasses
import functools
import http.server
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus

import pytest

emulator = pytest.importorskip("gcp_storage_emulator.server", reason="needs gcp-storage-emulator")
pytest.importorskip("gcsfs", reason="needs gcsfs")

from gcp_storage_emulator.exceptions import NotFound  # noqa: E402
from gcp_storage_emulator.handlers import buckets, objects  # noqa: E402
from gcp_storage_emulator.storage import Storage  # noqa: E402

NAME = "emulated"
_CONDITION = "ifGenerationMatch"
# The last answer of each upload that is finished.
_FINISHED: dict[str, str] = {}


@dataclasses.dataclass
class Faults:
  """What goes wrong: shares of all requests, drawn from one seed.

  Attributes:
    unavailable: are answered with 503.
    lost: break off before they are served.
    lost_answers: are served, and break off then.
    slow: are answered `seconds` later.
  """

  unavailable: float = 0.0
  lost: float = 0.0
  lost_answers: float = 0.0
  slow: float = 0.0
  seconds: float = 0.3
  happened: Counter = dataclasses.field(default_factory=Counter)
  _random: random.Random = dataclasses.field(default_factory=lambda: random.Random(0))

  def draw(self) -> str:
    """What happens to the next request; "" for nothing."""
    number = self._random.random()
    for name in ("unavailable", "lost", "lost_answers", "slow"):
      number -= getattr(self, name)
      if number < 0:
        self.happened[name] += 1
        return name
    return ""


@dataclasses.dataclass
class Bucket:
  """A bucket that answers.

  Attributes:
    address: of its server.
    storage: what it holds.
    faults: may be changed at any time.
  """

  address: str
  storage: Storage
  faults: Faults

  def environment(self) -> dict[str, str]:
    """What a process must be given to find it."""
    return {"STORAGE_EMULATOR_HOST": self.address, "TENSORSTORE_GCS_HTTP_URL": self.address}

  def names(self, directory: str) -> list[str]:
    """The objects below a directory, without its name."""
    listed = self.storage.get_file_list(NAME, prefix=f"{directory}/")
    found = listed[0] if isinstance(listed, tuple) else listed
    return sorted(one["name"].removeprefix(f"{directory}/") for one in found)


@contextlib.contextmanager
def served(**faults: float) -> Iterator[Bucket]:
  """A new, empty bucket, gs://`NAME`."""
  _hold_conditions()
  storage = Storage(use_memory_fs=True)
  buckets.create_bucket(NAME, storage)
  given, lock = Faults(**faults), threading.Lock()
  server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 0), partial(_Handler, given, lock, storage)
  )
  server.daemon_threads = True
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield Bucket(f"http://127.0.0.1:{server.server_address[1]}", storage, given)
  finally:
    server.shutdown()
    server.server_close()


class _Handler(emulator.RequestHandler):
  def __init__(self, faults: Faults, lock: threading.Lock, storage: Storage, *rest: object):
    self._faults, self._lock = faults, lock
    super().__init__(storage, *rest)

  def _serve(self, method: str) -> None:
    with self._lock:
      fault = self._faults.draw()
    if fault == "slow":
      time.sleep(self._faults.seconds)
    if fault == "lost":
      self._break_off()
    elif fault == "unavailable":
      self.rfile.read(int(self.headers.get("Content-Length") or 0))
      self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
    else:
      sent = self.wfile
      self.wfile = answer = _Answer()
      with self._lock:
        emulator.Router(self).handle(method)
      self.wfile = sent
      if fault == "lost_answers":
        self._break_off()
      else:
        with contextlib.suppress(OSError):  # who asked has ended
          sent.write(bytes(answer))

  def _break_off(self) -> None:
    self.close_connection = True
    with contextlib.suppress(OSError):
      self.connection.shutdown(socket.SHUT_RDWR)

  def do_GET(self) -> None:
    self._serve("GET")

  def do_POST(self) -> None:
    self._serve("POST")

  def do_PUT(self) -> None:
    self._serve("PUT")

  def do_DELETE(self) -> None:
    self._serve("DELETE")

  def do_PATCH(self) -> None:
    self._serve("PATCH")


class _Answer(bytearray):
  def write(self, content: bytes) -> int:
    self.extend(content)
    return len(content)

  def flush(self) -> None:
    pass


@functools.cache
def _hold_conditions() -> None:
  """Makes the emulator refuse conditional writes and deletions where they are to be."""
  plain = objects.upload_partial
  # gcsfs sends its parts by POST, which `insert` hands on to the module's function.
  objects.upload_partial = remembered = partial(_remembered, plain)
  for _, handlers in emulator.HANDLERS:
    for method, handler in handlers.items():
      if handler in (objects.insert, objects.delete):
        handlers[method] = partial(_conditional, handler)
      if handler is plain:
        handlers[method] = remembered
      if handler in (objects.get, objects.download):
        handlers[method] = partial(_with_generation, handler)


def _conditional(handler, request, response, storage, *rest) -> None:
  asked = request.query.get(_CONDITION)
  if asked is not None and _upload_of(request) not in _FINISHED:
    name = request.params.get("object_id") or request.query.get("name", [None])[0]
    name = name or request.data["meta"]["name"]
    try:
      found = storage.get_file_obj(request.params["bucket_name"], name)["generation"]
    except NotFound:
      found = "0"
    if found != asked[0]:
      response.status = HTTPStatus.PRECONDITION_FAILED
      response.write_file(
        json.dumps({"error": {"code": 412, "message": f"the generation is {found}"}}),
        content_type="application/json",
      )
      return
  handler(request, response, storage, *rest)


def _upload_of(request) -> str | None:
  return request.query.get("upload_id", [None])[0]


def _remembered(handler, request, response, storage, *rest) -> None:
  """A part of an upload that is finished is answered as the last was: its answer may be lost."""
  upload = _upload_of(request)
  if upload in _FINISHED:
    response.write_file(_FINISHED[upload], content_type="application/json")
    return
  handler(request, response, storage, *rest)
  if response.status is HTTPStatus.OK:
    _FINISHED[upload] = response._content


def _with_generation(handler, request, response, storage, *rest) -> None:
  """TensorStore reads the condition of its next write from what it downloads."""
  handler(request, response, storage, *rest)
  with contextlib.suppress(NotFound):
    found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
    response["x-goog-generation"] = found["generation"]


def main() -> None:
  """Serves a bucket until it is interrupted, and prints what finds it."""
  with served() as bucket:
    print(" ".join(f"{name}={value}" for name, value in bucket.environment().items()), flush=True)
    print(f"gs://{NAME}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
  main()
