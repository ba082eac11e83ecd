"""The watch of a run of several processes: none of them waits for one that is gone.

A process that was killed, stopped or cut off leaves the others in a computation that never ends, or
with an error that does not name it. JAX finds it too, and then aborts all others with a report of
its C++ layer. Here a thread of every process tells the others that it lives (`notes.py`), another
one listens, and ends the process with one sentence, wherever its main thread is.
"""

import contextlib
import dataclasses
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from apo_jax.devices import interrupts
from apo_jax.devices.interrupts import TRY_AGAIN
from apo_jax.devices.notes import (
  SAVING,
  SECONDS_TO_SAVE,
  News,
  Note,
  lost,
  news_of,
  next_news,
  note_of,
  to_text,
)
from apo_jax.devices.relay import Relay

_TICK = 0.5
# Longer than anything that keeps a process's Python from its threads, such as a large JSON file.
SECONDS_OF_SILENCE = 40.0
# Where something that was done together has failed, one of them is gone: the one that is silent.
SECONDS_OF_A_SUSPECT = 5.0
SECONDS_TO_SUSPECT = 9.0
# For a process that has a sentence of its own, and for the others to read what the first one says.
_SECONDS_TO_SPEAK = 3.0
_NOTES, _NEWS = "apo_jax/notes", "apo_jax/news"


class Silences:
  """For how long each of the others was not heard of, while this process itself was running."""

  def __init__(self, processes: range | tuple[int, ...]) -> None:
    self._beats: dict[int, int] = {}
    self.seconds = dict.fromkeys(processes, 0.0)

  def after(self, seconds: float, beats: Mapping[int, int]) -> tuple[int, float]:
    """Counts the beats that were seen after some seconds; the longest silence, and whose."""
    for process in self.seconds:
      known, beat = self._beats.get(process), beats.get(process)
      self.seconds[process] = self.seconds[process] + seconds if beat == known else 0.0
      if beat is not None:
        self._beats[process] = beat
    return max(self.seconds.items(), key=lambda item: item[1])


class Watch:
  """The two threads, and what the process wants the others to know."""

  def __init__(self, client: Any, process: int, processes: int, relay: Relay | None) -> None:
    host = socket.gethostname()
    self._client, self._process, self._relay = client, process, relay
    self._others = (0,) if process else range(1, processes)
    self._processes = processes
    self._note = Note(host)
    self._notes: dict[int, Note] = {}
    # Should the first never speak, its host is where the coordinator is.
    self._news = News(host if process == 0 else "the coordinator's host")
    self._verdict: tuple[int, str] | None = None
    self._asked_since: float | None = None
    self._leaving = self._stopped = False
    self._wake, self._heard = threading.Event(), threading.Event()
    self._writing = threading.Lock()

  def start(self) -> None:
    """Starts to tell and to listen; returns when the hosts of those it listens to are known."""
    for work in (self._tell, self._listen):
      threading.Thread(target=work, daemon=True, name="apo_jax watch").start()
    self._heard.wait(SECONDS_OF_SILENCE)

  def wake(self) -> None:
    """Has this process's note sent at once."""
    self._wake.set()

  def suspect(self) -> None:
    """Gives the watch time to find who is gone, where what was done together has failed.

    Does not return where one is found. The time is that of the first process, told by its beats:
    on a busy machine it takes longer to count the others' silence.
    """
    self._say(suspects=True)
    until = self._news.beat + SECONDS_TO_SUSPECT / _TICK
    self._wait(lambda: self._news.beat >= until, SECONDS_OF_SILENCE)

  def leave(self, code: int, sentence: str) -> None:
    """Tells the others that this process ends early, and why; returns when they have read it."""
    self._leaving = True
    self._say(ended=(code, sentence))
    if self._process:
      self._wait(lambda: self._news.ended is not None)
      return
    # The first has the coordinator, without which nobody can read anything, nor end a save.
    self._wait(lambda: all(note.ended for note in self._notes.values()))
    self._wait(lambda: not self._saved_by_others(), SECONDS_TO_SAVE)

  def finish(self) -> None:
    """Waits until all processes have come to their end; for as long as it takes, under watch."""
    self._say(finished=True)
    while not self._news.finished:
      time.sleep(_TICK / 10)
    self._stopped = True

  def _saved_by_others(self) -> bool:
    others = [note for process, note in self._notes.items() if process != self._process]
    return any(note.position == SAVING and not note.ended for note in others)

  def _wait(self, done: Callable[[], bool], seconds: float = _SECONDS_TO_SPEAK) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
      time.sleep(_TICK / 10)

  def _say(self, **changes: Any) -> None:
    with self._writing:
      self._note = dataclasses.replace(self._note, **changes)
    self._wake.set()

  def _tell(self) -> None:
    while not self._stopped:
      self._wake.clear()
      # Where the coordinator is gone, the other thread knows what to do.
      with contextlib.suppress(jax.errors.JaxRuntimeError, RuntimeError, ValueError):
        self._exchange()
      self._wake.wait(_TICK if self._heard.is_set() else _TICK / 10)

  def _exchange(self) -> None:
    asked, position = interrupts.asked(), interrupts.position()
    with self._writing:
      beat = self._note.beat + 1
      self._note = dataclasses.replace(self._note, beat=beat, asked=asked, position=position)
    own = to_text(self._note)
    self._client.key_value_set(f"{_NOTES}/{self._process}", own, allow_overwrite=True)
    if self._process:
      self._news = news_of(self._client.key_value_try_get(_NEWS))
    else:
      found = self._client.key_value_dir_get(_NOTES)
      self._notes = {int(key.rpartition("/")[2]): note_of(text) for key, text in found}
      news = dataclasses.replace(self._news, ended=self._news.ended or self._verdict)
      if len(self._notes) == self._processes:
        news = next_news(news, self._notes, self._asked_for())
      self._client.key_value_set(_NEWS, to_text(news), allow_overwrite=True)
      self._news = news
    if self._process or len(self._notes) == self._processes:
      self._heard.set()
    interrupts.decided(self._news.asked, self._news.save_at)

  def _host_of(self, process: int) -> str:
    if process == 0:
      return self._news.host
    return self._notes[process].host if process in self._notes else "a host that never spoke"

  def _asked_for(self) -> float:
    if self._news.asked is None:
      return 0.0
    self._asked_since = self._asked_since or time.monotonic()
    return time.monotonic() - self._asked_since

  def _listen(self) -> None:
    silences = Silences(self._others)
    while True:
      before = time.monotonic()
      time.sleep(_TICK)
      if self._leaving or self._stopped:
        return
      news, notes = self._news, self._notes
      if news.ended is not None:
        self._end(*news.ended)
      if news.end_now:
        if self._process == 0:
          time.sleep(_SECONDS_TO_SPEAK)  # until the others have read it
        interrupts.say_and_exit(news.asked)
      if self._relay is not None and self._relay.broken.is_set():
        self._end(TRY_AGAIN, lost(0, news.host, 0.0))
      # A process that was stopped itself has not listened in between.
      passed = min(time.monotonic() - before, 2 * _TICK)
      beats = {i: note.beat for i, note in notes.items()} or {0: news.beat}
      who, seconds = silences.after(passed, beats)
      suspects = any(note.suspects for note in (self._note, *notes.values()))
      if seconds > (SECONDS_OF_A_SUSPECT if suspects else SECONDS_OF_SILENCE):
        self._verdict = TRY_AGAIN, lost(who, self._host_of(who), seconds)
        self._end(*self._verdict)

  def _end(self, code: int, sentence: str) -> None:
    """Ends this process, unless it is about to say itself why it ends."""
    saves = interrupts.position() == SAVING
    self._wake.set()
    self._wait(lambda: self._leaving, SECONDS_TO_SAVE if saves else _SECONDS_TO_SPEAK)
    if not self._leaving:
      print(f"apo_jax: {sentence}", file=sys.stderr, flush=True)
      os._exit(code)
