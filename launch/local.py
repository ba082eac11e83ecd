"""Starts one run as several processes of this machine, to try on one host what a cluster does.

    python launch/local.py --processes=2 -- --config=configs/demo.py --run_dir=runs/two_processes

What follows `--` goes to every process, with --coordinator_address, --num_processes and
--process_id added. Process 0 prints as if it ran alone; the lines of the others start with their
number. When one process fails, its exit code is returned, once the others have ended themselves, as
on a cluster, where nobody else would end them; what still runs after a minute is ended. SIGINT and
SIGTERM are passed on to all, each time that they come, and the code of those that fail is returned.
"""

import argparse
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import BinaryIO, NoReturn

# The processes find out themselves that one is gone, and make a save when they are asked to end.
PATIENCE_SECONDS = 60.0
GRACE_SECONDS = 5.0
POLL_SECONDS = 0.05
MOST = 1024  # processes, or devices of one


def main(arguments: list[str]) -> int:
  """Runs the processes that `arguments` ask for and returns the exit code for the shell."""
  options, program_arguments = parse(arguments)
  command = [sys.executable, "-m", options.module, *program_arguments]
  command += [f"--coordinator_address=127.0.0.1:{free_port()}"]
  command += [f"--num_processes={options.processes}"]
  commands = [[*command, f"--process_id={index}"] for index in range(options.processes)]
  code = run(commands, child_environment(options.devices_per_process))
  return code if code >= 0 else 128 - code  # a shell's way to say "ended by a signal"


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
  """Returns the launcher's options and, untouched, what follows the first `--`."""
  cut = arguments.index("--") if "--" in arguments else len(arguments)
  parser = _Parser(
    description="Starts one run as several processes of this machine.",
    usage="python launch/local.py --processes=N [options] -- --config=FILE ...",
    allow_abbrev=False,
  )
  parser.add_argument("--processes", type=positive, required=True, help="processes to start")
  parser.add_argument(
    "--devices_per_process",
    type=positive,
    help="CPU devices a process sees (set JAX_PLATFORMS=cpu where there are others)",
  )
  parser.add_argument(
    "--module", type=module, default="apo_jax.main", help="the module that each process runs"
  )
  return parser.parse_args(arguments[:cut]), arguments[cut + 1 :]


class _Parser(argparse.ArgumentParser):
  """Says what is wrong in one sentence, without a usage."""

  def error(self, message: str) -> NoReturn:
    print(f"launch/local.py: {message}; see --help.", file=sys.stderr)
    sys.exit(2)


def positive(text: str) -> int:
  """Returns `text` as a number of processes, or of devices."""
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f"is {text!r}; it must be a whole number of at least 1")
  if int(text) > MOST:
    raise argparse.ArgumentTypeError(f"is {text}; it must be at most {MOST}, as on one machine")
  return int(text)


def module(text: str) -> str:
  """Returns `text` as the name of a module that is there."""
  try:
    found = importlib.util.find_spec(text)
  except (ImportError, ValueError):
    found = None
  if found is None:
    raise argparse.ArgumentTypeError(f"is {text!r}; it must be a module, such as apo_jax.main")
  return text


def free_port() -> int:
  """Returns a TCP port of this machine that nothing listens on now."""
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def child_environment(devices_per_process: int | None) -> dict[str, str]:
  """Returns the processes' environment: this one, unbuffered, with the wished CPU devices."""
  environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
  if devices_per_process is not None:
    # Last, as XLA takes the last of two values for one flag.
    flags = [os.environ.get("XLA_FLAGS", "")]
    flags += [f"--xla_force_host_platform_device_count={devices_per_process}"]
    environment["XLA_FLAGS"] = " ".join(flags).strip()
  return environment


def run(commands: list[list[str]], environment: dict[str, str]) -> int:
  """Runs the commands side by side; returns the first failure's exit code, -signal or 0."""
  received: list[int] = []
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: received.append(number))
  processes: list[subprocess.Popen] = []
  readers: list[threading.Thread] = []
  try:
    for index, command in enumerate(commands):
      outputs = [
        None if index == 0 and stream.isatty() else subprocess.PIPE
        for stream in (sys.stdout, sys.stderr)
      ]
      # A session of its own: Ctrl-C then reaches a process once, through us, and with its children.
      process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=outputs[0],
        stderr=outputs[1],
        start_new_session=True,
      )
      processes.append(process)
      prefix = f"[{index}] ".encode() if index else b""
      for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        if source is not None:  # else process 0 writes to a terminal itself, as if it ran alone
          readers.append(start_reader(source, target.buffer, prefix))
    return wait(processes, received)
  finally:
    end(processes)
    for reader in readers:
      reader.join(timeout=GRACE_SECONDS)


def start_reader(source: BinaryIO, target: BinaryIO, prefix: bytes) -> threading.Thread:
  """Starts to copy the lines of `source` to `target`, each behind `prefix`."""

  def copy() -> None:
    for line in source:
      # One write a line, so that lines of different processes do not mix. Python's own print, where
      # it is not buffered, writes a line and its end apart.
      target.write(prefix + line.rstrip(b"\n") + b"\n")
      target.flush()

  thread = threading.Thread(target=copy, daemon=True)
  thread.start()
  return thread


def wait(processes: list[subprocess.Popen], received: list[int]) -> int:
  """Waits for the end of all, or for long enough after a signal or a failure.

  Returns:
    The exit code, or -signal, of the process that failed first; where none did, 0, or minus the
    signal that was received.
  """
  failure, passed_on, deadline = 0, 0, float("inf")
  while True:
    codes = [process.poll() for process in processes]
    if not failure and any(codes):
      failed = next(index for index, code in enumerate(codes) if code)
      failure = codes[failed]
      print(f"local.py: process {failed} {words(failure)}.", file=sys.stderr, flush=True)
      deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
    for number in received[passed_on:]:
      send(processes, number)
      passed_on += 1
      deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
    if None not in codes or time.monotonic() > deadline:
      return failure or (-received[0] if received else 0)
    time.sleep(POLL_SECONDS)


def words(code: int) -> str:
  """How a process ended, for people."""
  return (
    f"ended with exit code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
  )


def end(processes: list[subprocess.Popen]) -> None:
  """Ends what still runs, after a grace period by force."""
  send(processes, signal.SIGTERM)
  deadline = time.monotonic() + GRACE_SECONDS
  while time.monotonic() < deadline and any(process.poll() is None for process in processes):
    time.sleep(POLL_SECONDS)
  send(processes, signal.SIGKILL)
  for process in processes:
    process.wait()


def send(processes: list[subprocess.Popen], number: int) -> None:
  """Sends a signal to the processes that still run, and to their children."""
  for process in processes:
    if process.poll() is None:
      os.killpg(process.pid, number)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
