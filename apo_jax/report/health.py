"""What the report says of a run's health."""

import html

from apo_jax.report.data import Run
from apo_jax.report.elements import section


def health_section(run: Run) -> str:
  """Every round's warnings; nothing where no round was looked at."""
  checked = [(round.number, round.health["findings"]) for round in run.rounds if round.health]
  if not checked:
    return ""
  rows = "".join(
    f"<tr><th>{'' if place else number}</th><td>{html.escape(phase)}</td>"
    f"<td>{html.escape(sentence)}</td></tr>"
    for number, findings in checked
    for place, (phase, sentence) in enumerate(_said(findings))
  )
  return section(
    "Health",
    "What lies beyond the thresholds of <code>config.health</code>, in the phase that showed it.",
    '<div class="wide"><table class="health"><thead><tr><th>round</th><th>phase</th>'
    f"<th>warning</th></tr></thead><tbody>{rows}</tbody></table></div>",
  )


def _said(findings: list[dict[str, str]]) -> list[tuple[str, str]]:
  """Of each finding the phase and the sentence."""
  if not findings:
    return [("", "Nothing to say.")]
  return [(one["phase"].replace("_", " "), one["sentence"]) for one in findings]
