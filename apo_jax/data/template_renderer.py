"""Chat templates rendered in a process of their own (template_process.py), one for every process.

It is started with the first rendering and ends with this process, whose end closes its input.
"""

import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from apo_jax.config.fields import ConfigError
from apo_jax.data import template_process
from apo_jax.data.template_process import MEMORY, SECONDS, TOO_LONG

LONGEST_TEMPLATE = 1_000_000  # characters; the longest that is published has some 30,000
# What a rendering may hold beside what was said, and how often it may repeat that.
_MOST_AROUND, _MOST_REPEATED = 1_000_000, 8
_AT_ONCE = 64  # dialogues; to hand over one takes as long as to render it

Dialogue = Sequence[Mapping[str, str]]


class TemplateLimit(ConfigError):
  """A template that takes more than a dialogue could need."""


def render_apart(
  template: str, dialogues: Sequence[Dialogue], variables: Mapping[str, Any]
) -> list[str | jinja2.TemplateError]:
  """The texts that a template makes of dialogues, as `apply_chat_template` of transformers does.

  Args:
    template: the Jinja text.
    dialogues: each of turns with "role" and "content".
    variables: what the template knows beside them.

  Returns:
    For each dialogue its text, or why the template refuses it.

  Raises:
    TemplateLimit: it is too long, or takes too much time, memory or text for one of them.
  """
  if len(template) > LONGEST_TEMPLATE:
    raise _too_much(f"has {len(template):,} characters, more than {LONGEST_TEMPLATE:,}")
  found: list[str | jinja2.TemplateError] = []
  for start in range(0, len(dialogues), _AT_ONCE):
    some = dialogues[start : start + _AT_ONCE]
    said = max(sum(len(turn["content"]) for turn in one) for one in some)
    most = _MOST_AROUND + _MOST_REPEATED * said
    fixed = {"chat_template": template, "most": most, "seconds": SECONDS}
    request = {"dialogues": some, **fixed, **variables}
    found += [_read(one, most) for one in _renderer(os.getpid()).ask(request)]
  return found


def _read(answer: Mapping[str, Any], most: int) -> str | jinja2.TemplateError:
  """What the process said of one dialogue."""
  if "text" in answer:
    return answer["text"]
  if "error" in answer:
    return jinja2.TemplateError(answer["error"])
  if "characters" in answer:
    made = f"{answer['characters']:,} characters"
    raise _too_much(f"makes {made} of one dialogue, more than {most:,}")
  raise _too_much(f"takes more than {MEMORY / 2**30:g} GiB of memory for one dialogue")


def _too_much(problem: str) -> TemplateLimit:
  return TemplateLimit(
    "config.data.chat_template, or where that is '' the tokenizer's own, stands for a template"
    f" that {problem}; give another, or 'hh'."
  )


class _Renderer:
  """The process, and what is sent to it; started anew where a template has ended it."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._process: subprocess.Popen[bytes] | None = None

  def ask(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the process answers.

    Raises:
      TemplateLimit: the system ended it.
    """
    line = json.dumps(request).encode() + b"\n"
    with self._lock:
      self._process = self._process or _start()
      try:
        answer = _exchange(self._process, line)
      except BaseException:
        # The next question must not be given the answer to this one.
        self._process.kill()
        self._end()
        raise
      if answer.endswith(b"\n"):
        return json.loads(answer)
      code = self._end()
    if code == -TOO_LONG:
      raise _too_much(f"takes more than {SECONDS:g} s for one dialogue")
    return [{"memory": True}]

  def _end(self) -> int:
    """Waits for a process that has ended; its exit code, or the negative number of a signal."""
    process, self._process = self._process, None
    with process:
      return process.wait()


def _exchange(process: subprocess.Popen[bytes], line: bytes) -> bytes:
  """The process's line to a line, which is not whole where it has ended."""
  try:
    process.stdin.write(line)
    process.stdin.flush()
  except BrokenPipeError:
    return b""
  return process.stdout.readline()


def _start() -> subprocess.Popen[bytes]:
  process = subprocess.Popen(
    [sys.executable, "-P", str(Path(template_process.__file__))],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    # One thread of NumPy's: each takes address space.
    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    start_new_session=True,  # Ctrl-C is for the run
  )
  if process.stdout.readline() != b'"ready"\n':
    raise RuntimeError("The process that renders chat templates does not start.")
  return process


@functools.cache
def _renderer(process: int) -> _Renderer:
  """That of a process, by its id: one that was forked must not speak into its parent's pipe."""
  del process
  return _Renderer()
