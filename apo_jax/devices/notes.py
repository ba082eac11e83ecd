"""What the processes of a run tell each other while it runs, and what follows from it.

Every process keeps a note under its number in the key-value store of JAX's coordinator. Process 0
reads all of them and writes the news, which the others read. Nothing here waits or talks: these are
the rules alone.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

# A process that makes a save of its own accord, and then ends.
SAVING = "saving"

# Seconds for which some may be in updates and others not, where all are asked to end.
SECONDS_TO_AGREE = 5.0
SECONDS_TO_SAVE = 25.0


@dataclasses.dataclass(frozen=True)
class Note:
  """What a process says of itself.

  Attributes:
    host: the name of its machine.
    beat: grows for as long as it lives.
    asked: the signal that asked it to end.
    position: None where it has nothing to save; the update that it stands at; or `SAVING`.
    suspects: what it did together with others has failed, so that one of them is likely gone.
    finished: it is done, and waits for the others.
    ended: its exit code, and the sentence it ended with.
  """

  host: str
  beat: int = 0
  asked: int | None = None
  position: int | str | None = None
  suspects: bool = False
  finished: bool = False
  ended: tuple[int, str] | None = None


@dataclasses.dataclass(frozen=True)
class News:
  """What process 0 says to all.

  Attributes:
    host: the name of its machine.
    beat: grows for as long as it lives.
    asked: the signal that asked one of them to end.
    save_at: the update behind which all save and end.
    end_now: there is nothing to save: all end at once.
    ended: exit code and sentence of the first process that ended early or was lost; it names it.
    finished: all are.
  """

  host: str
  beat: int = 0
  asked: int | None = None
  save_at: int | None = None
  end_now: bool = False
  ended: tuple[int, str] | None = None
  finished: bool = False


def to_text(said: Note | News) -> str:
  """As JSON."""
  return json.dumps(dataclasses.asdict(said))


def note_of(text: str) -> Note:
  """The note that `to_text` wrote."""
  return Note(**_fields(text))


def news_of(text: str) -> News:
  """The news that `to_text` wrote."""
  return News(**_fields(text))


def next_news(news: News, notes: Mapping[int, Note], asked_for: float) -> News:
  """What follows from the notes; a decision that was made stays.

  Where all are asked to end, those within updates stand still until they know of one update that
  all will reach: the one behind the furthest.

  Args:
    news: the last.
    notes: of all processes, by number.
    asked_for: seconds since it was first seen that one is asked to end.
  """
  asked = news.asked or next((note.asked for note in notes.values() if note.asked), None)
  ended = news.ended or next(
    (
      (note.ended[0], f"{_named(process, note.host)} has ended: {note.ended[1]}")
      for process, note in sorted(notes.items())
      if note.ended
    ),
    None,
  )
  save_at, end_now = news.save_at, news.end_now
  if asked is not None and save_at is None and not end_now:
    positions = [note.position for note in notes.values()]
    steps = [position for position in positions if isinstance(position, int)]
    patience = SECONDS_TO_SAVE if SAVING in positions else SECONDS_TO_AGREE
    if len(steps) == len(positions):
      save_at = max(steps) + 1
    else:
      nothing = all(position is None for position in positions)
      all_save = all(position == SAVING for position in positions)
      end_now = nothing or (asked_for > patience and not all_save)
  return News(
    host=news.host,
    beat=news.beat + 1,
    asked=asked,
    save_at=save_at,
    end_now=end_now,
    ended=ended,
    finished=news.finished or all(note.finished for note in notes.values()),
  )


def lost(process: int, host: str, seconds: float) -> str:
  """The sentence of a process that is not heard of."""
  heard = f"has not been heard of for {seconds:.0f} seconds" if seconds else "has left"
  return (
    f"{_named(process, host)} {heard}: it was killed, stopped or cut off. This process ends too;"
    " what is finished is kept, and the same command goes on."
  )


def _named(process: int, host: str) -> str:
  return f"Process {process} on {host}"


def _fields(text: str) -> dict[str, Any]:
  fields = json.loads(text)
  if fields["ended"] is not None:
    fields["ended"] = tuple(fields["ended"])
  return fields
