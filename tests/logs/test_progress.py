import io

import pytest

from apo_jax.logs.progress import Progress

EVALUATION = {
  "round": 1,
  "true_utility": 0.8125,
  "testing_reward": -1.5,
  "win_rate_golden": 0.25,
  "win_rate_start": 0.75,
  "kl_to_start": 3.14159,
  "response_length": 42.25,
  "unfinished": 0.5,
  "reward_accuracy": 0.875,
  "reward_ece": 0.0625,
  "standard_errors": {
    "true_utility": 0.0125,
    "testing_reward": 0.5,
    "win_rate_golden": 0.0273,
    "win_rate_start": None,
    "kl_to_start": 0.126,
    "response_length": 1.04,
    "unfinished": 0.031,
    "reward_accuracy": 0.0415,
    "reward_ece": 0.0201,
  },
}


class Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


class Terminal(io.StringIO):
  def isatty(self):
    return True


def plain(clock=None):
  stream = io.StringIO()
  return Progress(True, stream, clock or Clock()), stream


def test_plain_lines_at_start_and_end():
  clock = Clock()
  progress, stream = plain(clock)
  with progress.phase("round 1 reward step", 24) as phase:
    for step in range(24):
      clock.now += 0.25
      phase.advance(loss=1.0 / (step + 1), accuracy=0.5)
  assert stream.getvalue().splitlines() == [
    "round 1 reward step: 24 updates",
    "round 1 reward step: 24/24 updates in 6.0 s loss=0.04167 accuracy=0.5",
  ]


def test_plain_lines_come_at_most_every_ten_seconds():
  clock = Clock()
  progress, stream = plain(clock)
  with progress.phase("sampling", 31, unit="batches") as phase:
    for _ in range(31):
      clock.now += 1.0
      phase.advance()
  assert stream.getvalue().splitlines() == [
    "sampling: 31 batches",
    "sampling: 10/31",
    "sampling: 20/31",
    "sampling: 30/31",
    "sampling: 31/31 batches in 31.0 s",
  ]


def test_plain_lines_without_a_total():
  progress, stream = plain()
  with progress.phase("reading", None, unit="files") as phase:
    phase.advance(3)
  assert stream.getvalue().splitlines() == ["reading", "reading: 3 files in 0.0 s"]


def test_a_failed_phase_says_where_it_stopped():
  progress, stream = plain()
  with pytest.raises(RuntimeError), progress.phase("round 1 policy step", 4) as phase:
    phase.advance()
    raise RuntimeError
  assert stream.getvalue().splitlines()[-1] == "round 1 policy step: stopped at 1/4 after 0.0 s"


def test_the_header_comes_once_and_the_columns_line_up():
  progress, stream = plain()
  progress.round_row({"round": 0, "true_utility": None})
  progress.message("a message")
  progress.round_row(EVALUATION)
  lines = stream.getvalue().splitlines()
  first, second, rule, note, row_0, message, row_1, errors = lines
  assert "utility" in second and "KL to" in first
  assert "standard error over test queries" in note
  assert message == "a message"
  assert row_0.split() == ["0"] + ["-"] * 9
  assert row_1.split() == [
    *["1", "0.812", "-1.500", "0.250", "0.750", "3.14", "42.2", "0.500", "0.875", "0.062"]
  ]
  assert errors.split() == [
    *["±0.013", "±0.500", "±0.027", "±0.13", "±1.0", "±0.031", "±0.042", "±0.020"]
  ]
  # A row's numbers end where the rule above them ends, and their errors below them.
  ends = {place for place in range(len(rule)) if rule[place : place + 2] in ("- ", "-")}
  assert {place for place in range(len(row_1)) if row_1[place + 1 :][:1] in ("", " ")} >= ends
  for place in ends:
    assert errors[place + 1 : place + 2] in ("", " ")
  assert errors[row_1.index("0.750") - 1 : row_1.index("0.750") + 5].isspace()  # it is not known
  assert max(map(len, lines)) <= 80


def test_a_judged_round_is_a_line_of_a_log_and_a_row_on_a_terminal():
  progress, stream = plain()
  progress.judged({"round": 0, "true_utility": None, "unfinished": 0.25})
  progress.judged(EVALUATION)
  first, second = stream.getvalue().splitlines()
  assert first == "round 0 judged: unfinished 0.250"
  assert second.startswith(
    "round 1 judged: true utility 0.812 ±0.013, testing reward -1.500 ±0.500"
  )
  assert ", length 42.2 ±1.0, unfinished 0.500" in second and ", ECE 0.062 ±0.020" in second
  progress.table([{"round": 0}, EVALUATION])
  assert stream.getvalue().count("unfin-") == 1  # the table is there once, at the end
  terminal, same = Terminal(), Terminal()
  Progress(True, terminal).judged(EVALUATION)
  Progress(True, same).round_row(EVALUATION)
  assert terminal.getvalue() == same.getvalue()


def test_a_phase_without_work_does_not_count_to_nothing():
  clock = Clock()
  progress, stream = plain(clock)
  with progress.phase("supervised", 0):
    clock.now += 26.0
  assert stream.getvalue().splitlines() == ["supervised", "supervised: no updates, ready in 26.0 s"]
  terminal = Terminal()
  with Progress(True, terminal).phase("supervised", 0):
    pass
  assert "0/0" not in terminal.getvalue()


def test_a_bar_without_a_total_shows_what_is_done():
  terminal = Terminal()
  with Progress(True, terminal).phase("round 1 evaluation", None, unit="judgements") as phase:
    phase.advance(320)
  assert "320" in terminal.getvalue() and "/?" not in terminal.getvalue()


def test_table_shows_all_rows_and_counts_as_the_header():
  progress, stream = plain()
  progress.table([{"round": 0}, EVALUATION])
  progress.round_row({**EVALUATION, "round": 2})
  lines = stream.getvalue().splitlines()
  firsts = [line.split()[0] for line in lines[4:]]
  assert firsts == ["0", "1", "±0.013", "2", "±0.013"]


def test_a_terminal_gets_a_bar_with_the_values_and_the_same_table():
  stream = Terminal()
  progress = Progress(True, stream)
  with progress.phase("round 1 [reward] step", 3) as phase:
    phase.advance(2, loss=0.31)
    progress.message("saved [checkpoint]")
    phase.advance()
  progress.round_row(EVALUATION)
  shown = stream.getvalue()
  assert "round 1 [reward] step" in shown
  assert "3/3" in shown
  assert "loss=0.31" in shown
  assert "saved [checkpoint]" in shown
  plain_progress, plain_stream = plain()
  plain_progress.round_row(EVALUATION)
  assert shown.endswith(plain_stream.getvalue())


def test_a_disabled_progress_is_silent():
  stream = io.StringIO()
  progress = Progress(False, stream)
  with progress.phase("round 1 reward step", 2) as phase:
    phase.advance(loss=1.0)
  progress.message("text")
  progress.round_row(EVALUATION)
  progress.table([EVALUATION])
  assert stream.getvalue() == ""


def test_the_first_unit_is_told_apart():
  clock = Clock()
  progress, stream = plain(clock)
  with progress.phase("round 1 reward step", 3) as phase:
    assert phase.first_seconds is None
    clock.now += 8.0
    phase.first_done()
    clock.now += 1.0
    for _ in range(3):
      phase.advance(loss=0.5)
    assert phase.first_seconds == 8.0
  assert stream.getvalue().splitlines()[-1] == (
    "round 1 reward step: 3/3 updates in 9.0 s (the first after 8.0 s) loss=0.5"
  )
  terminal = Terminal()
  with Progress(True, terminal, clock).phase("round 1 reward step", 1) as phase:
    clock.now += 2.0
    phase.first_done()
    phase.advance(loss=0.5)
  assert "loss=0.5 (the first after 2.0 s)" in terminal.getvalue()
