"""What the report says of a run's health."""

import re

from apo_jax.report.data import Round, Run
from apo_jax.report.health import health_section


def said(*health):
  rounds = [Round(number, {}, {}, [], [], [], one) for number, one in enumerate(health)]
  return health_section(Run("run", {}, [], rounds, {}))


def rows(content):
  return [
    re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", content)[1:]
  ]


def test_every_round_has_its_warnings_or_nothing_to_say():
  finding = {"phase": "reward_base", "name": "n", "value": 1.0, "threshold": 0.5}
  content = said(
    {"findings": []},
    {"findings": [finding | {"sentence": "a < b"}, finding | {"sentence": "c"}]},
  )
  assert "<h2>Health</h2>" in content
  assert rows(content) == [
    ["0", "", "Nothing to say."],
    ["1", "reward base", "a &lt; b"],
    ["", "reward base", "c"],
  ]


def test_a_run_that_was_not_looked_at_says_nothing():
  assert said({}, {}) == ""
