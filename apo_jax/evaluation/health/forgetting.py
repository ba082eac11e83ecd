"""A reward model that no longer knows the human preferences."""

from apo_jax.evaluation.health.finding import BRANCH, Finding


def forgets_preferences(difference: float, standard_error: float, allowed: float) -> Finding | None:
  """A preference accuracy that has fallen since the reward model's base.

  Args:
    difference: the round's accuracy on test preferences less the base's.
    standard_error: of the difference, taken preference by preference.
    allowed: how many standard errors it may have fallen by.
  """
  threshold = -allowed * standard_error
  if difference >= threshold:
    return None
  sentence = (
    f"The reward model forgets preferences: its accuracy on test preferences is {-difference:.3f} "
    f"below its base's, more than {allowed:g} standard errors of {standard_error:.3f} allow. "
    "What it rewards is less what people prefer. Try a smaller config.reward.training.learning_rate"
    ' or config.reward.start="base"; with the golden term, a larger '
    "config.reward.apo.preference_coefficient or a smaller config.reward.apo.golden_coefficient. "
    f"{BRANCH}"
  )
  return Finding("forgets_preferences", difference, threshold, sentence)
