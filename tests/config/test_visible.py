"""Texts of strangers, where people read them."""

import io
import logging
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError
from apo_jax.config.visible import (
  LONGEST_WORD,
  MOST_CHARACTERS,
  make_logs_visible,
  visible,
  visible_lines,
)
from apo_jax.logs.progress import Progress
from tests.tiny import ROOT, users_environment

HOSTILE = "\x1b]0;title\x07\x1b[2J\r\n\x00\u202egnp.exe\u2066\x9b31m\ud800\ufeff\U000e0041"


def is_harmless(text, keep=""):
  hidden = {one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
  return hidden <= set("\u200c\u200d" + keep)


@given(st.text(st.characters(codec=None), max_size=60) | st.just(HOSTILE))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_any_text_becomes_one_harmless_line(text):
  shown = visible(text)
  assert is_harmless(shown) and shown.encode().decode() == shown
  assert visible(shown) == shown
  if text.isprintable():
    assert shown == text


@given(st.lists(st.sampled_from(["A" * 5000, "b ", "\x1b", "ü", "x" * 300]), max_size=40))
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_any_text_becomes_short_and_keeps_its_ends(parts):
  text = "".join(["first ", *parts, " last"])
  shown = visible(text)
  assert len(shown) < MOST_CHARACTERS + 1000
  assert max(map(len, shown.split())) <= LONGEST_WORD + 1
  assert shown.startswith("first") and shown.endswith("last")


def test_what_people_write_stays_as_it_is():
  for text in ("é 漢字 العربية עברית 👩\u200d👩\u200d👧 ½", "a\u00a0b\u3000c", "C:\\temp\\new", ""):
    assert visible(text) == text
  assert visible("a\tb\nc") == "a\\tb\\nc" and visible("a\nb", keep="\n") == "a\nb"
  assert visible_lines("a\n\x1bb") == "a\n\\x1bb"


def test_a_sentence_keeps_the_field_and_what_would_be_right(capsys):
  error = ConfigError(f"config.x is '{'A' * 100_000}{HOSTILE}'; it must be 1.", f"below {HOSTILE}")
  sentence, below = str(error).split("\n")
  assert sentence.startswith("config.x is 'AAA") and sentence.endswith("; it must be 1.")
  assert len(sentence) < 1000 and is_harmless(sentence) and is_harmless(below)
  assert refuse(str(error)) == 2
  assert is_harmless(capsys.readouterr().err, "\n")


@pytest.fixture
def visible_logs():
  factory = logging.getLogRecordFactory()
  make_logs_visible()
  yield
  logging.setLogRecordFactory(factory)


def test_every_library_s_log_is_visible(visible_logs):
  stream = io.StringIO()
  logger = logging.getLogger("apo_jax.tests.a_library")
  logger.propagate = False
  logger.addHandler(logging.StreamHandler(stream))
  logger.warning("it has %s\n\tand %d", f"{HOSTILE}{'B' * 100_000}", 2)
  logger.warning("plain %s", {"a": 1})
  said = stream.getvalue()
  assert is_harmless(said, "\n\t") and len(said) < 1000
  assert said.startswith("it has \\x1b]0;title\\x07") and "\n\tand 2\nplain {'a': 1}\n" in said


def test_what_a_run_says_is_one_visible_line():
  stream = io.StringIO()
  Progress(True, stream).message(f"columns: {HOSTILE}")
  assert stream.getvalue().count("\n") == 1 and is_harmless(stream.getvalue(), "\n")


@pytest.mark.parametrize("reads", [False, True])
def test_a_command_that_reads_no_input_has_none(reads):
  code = (
    "import sys\nfrom absl import app\nfrom apo_jax.config.command_line import parse_flags\n"
    f"parse_flags(['it'], reads_input={reads})\nprint(repr(sys.stdin.read()))"
  )
  given = {"input": "y\n", "text": True, "capture_output": True, "cwd": ROOT}
  ended = subprocess.run([sys.executable, "-c", code], env=users_environment(), **given)
  assert ended.stdout == ("'y\\n'\n" if reads else "''\n"), ended.stderr
