import errno
import os

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.logs.storage import check_room, problem_of


def caused(error, by):
  try:
    raise error from by
  except type(error) as found:
    return found


@pytest.mark.parametrize(
  ("number", "said"),
  [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EACCES, "by this user")],
)
def test_an_error_of_the_system_is_a_sentence(tmp_path, number, said):
  sentence = problem_of(OSError(number, os.strerror(number), "/data/run/a.json"), tmp_path)
  assert sentence.startswith("/data/run/a.json cannot be written: its disk ") and said in sentence
  assert "MB free" in sentence and "the same command goes on" in sentence


def test_it_is_found_in_other_errors_words_and_behind_them(tmp_path):
  words = ValueError("Error writing \"d/0\" [source locations='x.cc:1']: No space left on device")
  assert "no space left" in problem_of(words, tmp_path)
  assert "no space left" in problem_of(caused(RuntimeError("a save failed"), words), tmp_path)
  group = ExceptionGroup("saves", [KeyError("a"), caused(RuntimeError("b"), words)])
  assert str(tmp_path) in problem_of(group, tmp_path)


def test_other_errors_are_none_of_its_business(tmp_path):
  for error in (ValueError("a bug"), KeyError("x"), FileNotFoundError(errno.ENOENT, "no", "a")):
    assert problem_of(error, tmp_path) is None
  assert "is gone" in problem_of(FileNotFoundError(), tmp_path / "gone")


def test_room_is_asked_for_before_it_is_needed(tmp_path):
  check_room(tmp_path, 1, "a checkpoint")
  with pytest.raises(ConfigError, match=r"MB free, and a checkpoint takes 1,000,000,000,000\.0 MB"):
    check_room(tmp_path, 10**18, "a checkpoint")
