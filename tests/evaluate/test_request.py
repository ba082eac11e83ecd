"""Flags that do not fit together, as a user types them."""

import os
import subprocess
import sys

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.evaluate.request import JudgeRequest, Request, check
from tests import tiny

JUDGE = JudgeRequest("m", "http://host/v1")


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ({}, "Nothing to evaluate is named; give --run"),
    ({"reward": "r"}, "Nothing to evaluate on is named; give --preferences"),
    ({"run": "nowhere"}, "--run is 'nowhere', which is no directory"),
    ({"policy": "p", "preferences": "x"}, "--policy is 'p', but no queries"),
    ({"reward": "r", "queries": "x"}, "--queries is 'x', but no policy"),
    ({"policy": "p", "queries": "x", "preferences": "y"}, "--preferences is 'y', but no reward"),
    ({"policy": "p", "queries": "x", "rewardbench": "y"}, "--rewardbench is 'y', but no reward"),
    ({"reward": "r", "preferences": "x", "round": 1}, "--round is 1 without --run"),
    ({"reward": "r", "preferences": "x", "matrix": True}, "--matrix is True without --run"),
    ({"reward": "r", "preferences": "x", "against": "golden"}, "--against is 'golden', but no"),
    (
      {"policy": "p", "preferences": "x", "implicit": True},
      "--policy is 'p', so give --reference=DIR",
    ),
    ({"reward": "r", "preferences": "x", "implicit": True}, "--implicit needs a policy"),
    ({"reward": "r", "preferences": "x", "reference": "p"}, "read with --implicit alone"),
    ({"policy": "p", "queries": "x", "samples": 0}, "--samples is 0; it must be an int at least 1"),
    ({"policy": "p", "queries": "x", "top_p": 0.0}, "--top_p is 0.0; it must be a float above 0"),
    ({"policy": "p", "queries": "x", "temperature": -1.0}, "--temperature is -1.0"),
    ({"reward": "r", "preferences": "x", "output": "gs://b"}, "--output is 'gs://b'"),
    ({"preferences": "x", "judge": JudgeRequest("m")}, "--judge_url is ''"),
    (
      {"preferences": "x", "judge": JudgeRequest("m", "https://user:sk-1@host")},
      "--judge_url is 'an address with more'",
    ),
    ({"policy": "p", "queries": "x", "judge": JUDGE}, "--judge is 'm', but there is nothing"),
    ({"preferences": "x", "judge": JudgeRequest("m", "http://h", repeats=0)}, "--judge_repeats"),
    ({"preferences": "x", "judge": JudgeRequest("m", "http://h", timeout=0.0)}, "--judge_timeout"),
  ],
)
def test_what_does_not_fit_is_one_sentence(given, said):
  with pytest.raises(ConfigError) as error:
    check(Request(**given))
  assert said in str(error.value)
  assert "sk-1" not in str(error.value)


@pytest.mark.parametrize(
  "given",
  [
    {"reward": "r", "rewardbench": "x"},
    {"policy": "p", "queries": "x"},
    {"policy": "p", "queries": "x", "against": "golden", "judge": JUDGE},
    {"policy": "p", "reference": "q", "implicit": True, "preferences": "x"},
    {"preferences": "x", "judge": JUDGE},
  ],
)
def test_what_fits(given):
  check(Request(**given))


def test_a_run_is_only_read(tmp_path):
  asked = Request(run=str(tmp_path), output=str(tmp_path / "evaluation"))
  with pytest.raises(ConfigError, match=r"--output is .*which lies in the run"):
    check(asked)


def command(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "apo_jax.evaluate", *arguments],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    timeout=300,
  )


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--reward=nowhere", "--preferences=nofile.jsonl"], "--preferences is 'nofile.jsonl'"),
  ],
)
def test_the_command_refuses_in_one_line(arguments, said):
  result = command(*arguments)
  assert result.returncode == 2
  (line,) = [line for line in result.stderr.splitlines() if line.strip()]
  assert said in line
