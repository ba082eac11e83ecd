"""Requests and answers between a benchmark and a process."""

import sys

import pytest

from benchmarks.protocol import Contestant, ContestantError

ECHO = "tests.benchmarks.echo"


@pytest.fixture
def echo(tmp_path):
  contestant = Contestant("an echo", sys.executable, ECHO, {"size": 3}, scratch=tmp_path)
  yield contestant
  contestant.close()


def test_a_contestant_says_its_facts_once_built_and_answers_by_name(echo):
  assert echo.facts == {"built": 3}
  assert echo.ask("job") == {"size": 3}


def test_what_a_library_prints_is_no_answer(echo):
  assert echo.ask("noise") == "quiet"
  assert echo.ask("job") == {"size": 3}


def test_a_loop_waits_for_its_turn_and_answers_other_requests_meanwhile(echo):
  assert echo.ask("run")["steps"] == 1
  assert echo.ask("job") == {"size": 3}
  assert echo.ask("run")["steps"] == 2


def test_a_contestant_that_ends_says_why(echo):
  with pytest.raises(ContestantError, match="out of luck"):
    echo.ask("fail")
  with pytest.raises(ContestantError, match="an echo ended"):
    echo.ask("job")


def test_one_that_cannot_be_built_says_why(tmp_path):
  with pytest.raises(ContestantError, match="KeyError: 'size'"):
    Contestant("an echo", sys.executable, ECHO, {}, scratch=tmp_path)


def test_closing_ends_the_process(tmp_path):
  contestant = Contestant("an echo", sys.executable, ECHO, {"size": 3}, scratch=tmp_path)
  contestant.close()
  assert contestant._process.returncode == 0
