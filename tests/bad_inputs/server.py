"""Runs commands as a user types them, without paying for their imports each time.

    python tests/bad_inputs/server.py < requests > answers

It imports once what the commands import, then forks a process for each request, a line of JSON on
its standard input, in which the command runs as `python -m MODULE ARGUMENTS` would: with its own
flags, its own JAX, its own exit code. An answer is a line of JSON on the standard output.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

# What the commands import late; none of these defines a flag or touches a device.
IMPORTED = (
  "apo_jax.chat.talking",
  "apo_jax.compare.page",
  "apo_jax.data.tfds.builder",
  "apo_jax.evaluate.evaluate",
  "apo_jax.export.run",
  "apo_jax.game",
  "apo_jax.plan.descriptions",
  "apo_jax.plan.planner",
  "apo_jax.preview.previewing",
  "apo_jax.sweep.schedule",
  "apo_jax.sweep.table",
)
# A command that takes more is no refusal; the machine is to survive it.
MOST_SECONDS = 30  # of the processor: a busy machine may take long
MOST_BYTES = 16 * 2**30
_USERS_WARNINGS = list(warnings.filters)


def serve() -> None:
  """Answers requests until there are no more."""
  for name in IMPORTED:
    importlib.import_module(name)
  # JAX warns of every fork; it has no device open here, and so no threads that a fork would lose.
  warnings.filterwarnings("ignore", message=".*fork", category=RuntimeWarning)
  warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
  gc.collect()
  gc.freeze()  # a fork that collects would copy all that is imported
  for line in sys.stdin:
    began = time.monotonic()
    process = os.fork()
    if not process:
      run(json.loads(line))
    _, status, usage = os.wait4(process, 0)
    answer = {
      "code": os.waitstatus_to_exitcode(status),
      "seconds": time.monotonic() - began,
      "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }
    print(json.dumps(answer), flush=True)


def run(request: dict[str, Any]) -> None:
  """Becomes the command: its module or file, arguments, folder, and files for what it says."""
  code: Any = 1
  try:
    signal.alarm(20 * MOST_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    os.chdir(request["folder"])
    for number, (name, mode) in enumerate(
      (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))
    ):
      os.dup2(os.open(request[name], mode | (os.O_CREAT if number else 0)), number)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.argv = [request["command"], *request["arguments"]]
    warnings.filters[:] = _USERS_WARNINGS
    if request.get("ordinary_user"):
      give_up_privileges()
    if request["command"].endswith(".py"):
      sys.path[0] = str(Path(request["command"]).parent)
      runpy.run_path(request["command"], run_name="__main__")
    else:
      runpy.run_module(request["command"], run_name="__main__", alter_sys=True)
    code = 0
  except SystemExit as end:
    code = end.code
    if isinstance(code, str):
      print(code, file=sys.stderr)
    code = 0 if code is None else code if isinstance(code, int) else 1
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def give_up_privileges() -> None:
  """Makes root an ordinary owner of its files, for whom their modes hold."""
  if os.geteuid():
    return
  version_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
  none = (ctypes.c_uint32 * 6)()
  if ctypes.CDLL(None, use_errno=True).capset(version_3, none):
    raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
  serve()
