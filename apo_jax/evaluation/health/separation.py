"""A reward model that tells golden responses from samples so surely that it learns no more."""

from apo_jax.evaluation.health.finding import BRANCH, Finding


def separates_perfectly(gradient: float, threshold: float, kind: str) -> Finding | None:
  """A golden term whose pairs are all won by far.

  Args:
    gradient: the mean over pairs of sigmoid(-margin), the size of the ranking loss's derivative to
      the margin: 1/2 where golden response and sample get equal rewards, 0 where nothing is left.
    threshold: the least that is healthy.
    kind: of the golden term (`objectives.APO`).
  """
  if gradient >= threshold:
    return None
  seen = (
    "The reward model tells golden responses from samples all but perfectly: the mean of "
    f"sigmoid(-margin) over their pairs is {gradient:.2g}, below {threshold:g}."
  )
  if kind == "ranking":
    meant = "That is the golden term's gradient, and nothing is left to learn from these pairs."
    other = ""
  else:
    meant = "The difference of rewards has no limit, so the margin goes on growing without end."
    other = ' config.reward.apo.kind="ranking",'
  advice = (
    "See whether something other than quality gives samples away (length, ends, wording), or try"
    f"{other} a smaller config.reward.training.learning_rate, a smaller"
    ' config.reward.apo.golden_coefficient, or config.reward.start="base". '
    f"{BRANCH}"
  )
  return Finding("no_gradient_left", gradient, threshold, f"{seen} {meant} {advice}")
