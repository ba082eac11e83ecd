"""What processes decide together, by hand."""

import dataclasses

import pytest

from apo_jax.devices.notes import (
  SAVING,
  SECONDS_TO_AGREE,
  SECONDS_TO_SAVE,
  News,
  Note,
  lost,
  news_of,
  next_news,
  note_of,
  to_text,
)

FIRST = News("a", beat=4)
TERM = 15


def notes(*positions, asked=TERM, **last):
  """A note a process, of which the last was asked to end."""
  made = {i: Note(f"host{i}", position=position) for i, position in enumerate(positions)}
  made[len(made) - 1] = dataclasses.replace(made[len(made) - 1], asked=asked, **last)
  return made


def test_without_a_signal_nothing_is_decided():
  news = next_news(FIRST, notes(3, 4, asked=None), 0.0)
  assert news == News("a", beat=5)


def test_all_save_behind_the_update_that_follows_the_furthest():
  news = next_news(FIRST, notes(7, 9, 8), 0.0)
  assert (news.asked, news.save_at, news.end_now) == (TERM, 10, False)
  # What was decided stays, whatever is said afterwards.
  later = next_news(news, notes(SAVING, None, 12), 100.0)
  assert (later.save_at, later.end_now) == (10, False)


def test_where_nothing_is_to_be_saved_all_end_at_once():
  assert next_news(FIRST, notes(None, None), 0.0).end_now


@pytest.mark.parametrize(
  ("positions", "patience"),
  [
    ((None, 3), SECONDS_TO_AGREE),
    ((0, SAVING), SECONDS_TO_SAVE),
    ((None, SAVING), SECONDS_TO_SAVE),
  ],
)
def test_those_that_are_not_of_one_mind_are_waited_for(positions, patience):
  for seconds, ends in ((patience - 0.1, False), (patience + 0.1, True)):
    news = next_news(FIRST, notes(*positions), seconds)
    assert (news.end_now, news.save_at) == (ends, None)


def test_saves_of_all_are_waited_for_as_long_as_they_take():
  assert not next_news(FIRST, notes(SAVING, SAVING), 1e6).end_now


def test_who_ends_early_is_named_and_the_first_word_stays():
  news = next_news(FIRST, notes(None, 3, asked=None, ended=(2, "there is no such file.")), 0.0)
  assert news.ended == (2, "Process 1 on host1 has ended: there is no such file.")
  assert next_news(news, {0: Note("a", ended=(1, "later"))}, 0.0).ended == news.ended


def test_all_are_finished_when_the_last_one_is():
  both = {i: Note("a", finished=True) for i in range(2)}
  assert next_news(FIRST, both, 0.0).finished
  assert not next_news(FIRST, {**both, 2: Note("b")}, 0.0).finished


def test_they_are_read_as_they_were_written():
  note = Note("a", 3, TERM, SAVING, True, True, (75, "ein Wort: „ü“"))
  assert note_of(to_text(note)) == note
  news = News("a", 3, TERM, 12, True, (75, "x"), True)
  assert news_of(to_text(news)) == news


def test_a_lost_process_is_named_with_its_host():
  assert lost(2, "node-7", 40.4).startswith(
    "Process 2 on node-7 has not been heard of for 40 seconds: it was killed, stopped or cut off."
  )
  assert lost(0, "node-1", 0.0).startswith("Process 0 on node-1 has left: it was killed")
