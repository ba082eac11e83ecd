"""A local endpoint that speaks OpenAI's protocol as far as a judge needs it, well or badly."""

import contextlib
import http.server
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

KEY = "sk-secret-4711"


class Said(NamedTuple):
  """What the server answers: a verdict, or any body under any status, maybe late."""

  text: str = "A"
  status: int = 200
  seconds: float = 0.0
  body: str | None = None


class Asked(NamedTuple):
  """What the server was asked: the number of the call and the two responses that were shown."""

  number: int
  first: str
  second: str
  authorization: str | None


class Server(NamedTuple):
  """A server that runs."""

  url: str
  asked: list[Asked]


@contextlib.contextmanager
def serve(answer: Callable[[Asked], Said]) -> Iterator[Server]:
  """A server on a free port, which answers each call as the function says."""
  asked: list[Asked] = []
  lock = threading.Lock()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
      given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
      content = given["messages"][0]["content"]
      first, second = (
        re.search(f"<response_{name}>\n(.*?)\n</response_{name}>", content, re.DOTALL)[1]
        for name in "ab"
      )
      with lock:
        one = Asked(len(asked), first, second, self.headers.get("Authorization"))
        asked.append(one)
      said = answer(one)
      time.sleep(said.seconds)
      message = {"role": "assistant", "content": said.text}
      body: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": given["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
      }
      if said.status != 200:
        body = {"error": {"message": said.text}}
      data = (json.dumps(body) if said.body is None else said.body).encode()
      with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        self.send_response(said.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("retry-after-ms", "1")  # so that tests do not wait for the back-off
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
      pass

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  server.daemon_threads = True
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield Server(f"http://127.0.0.1:{server.server_port}/v1", asked)
  finally:
    server.shutdown()
    server.server_close()
