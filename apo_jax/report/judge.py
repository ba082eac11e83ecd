"""What the report says of the judge."""

import html

from apo_jax.report.data import Run
from apo_jax.report.elements import section
from apo_jax.run.judge import describe_judge


def judge_section(run: Run) -> str:
  """How independent the judge is; nothing where the run does not say so."""
  if not run.judge:
    return ""
  correlations = [one for one in run.values("judge_error_correlation") if one is not None]
  alike = ""
  if correlations:
    alike = (
      " Where the two order test preferences wrongly is correlated by"
      f" {correlations[0]:.2f} in the first round and {correlations[-1]:.2f} in the last: 1 is a"
      " twin, and wrong labels, on which both err, keep it above 0."
    )
  return section("The judge", html.escape(describe_judge(run.judge) + alike), "")
