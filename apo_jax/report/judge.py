"""What the report says of the judge."""

import html
from collections.abc import Mapping
from typing import Any

from apo_jax.run.judge import describe_judge


def judge_section(facts: Mapping[str, Any]) -> str:
  """How independent the judge is, from what judge.json holds, as HTML-escaped text."""
  return html.escape(describe_judge(facts))
