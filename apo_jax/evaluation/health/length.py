"""A reward model that goes by length alone."""

from apo_jax.evaluation.health.finding import Finding

_ADVICE = (
  "Give the preferences and golden responses more that are good at another length, let samples be "
  "as long as golden responses are (config.sampling.training.max_new_tokens), or try a larger "
  "config.reward.apo.preference_coefficient."
)


def follows_length(correlation: float, threshold: float, of: str) -> Finding | None:
  """Rewards that order a query's samples by length.

  Args:
    correlation: of the ranks by reward and by length (`length_order.rank_correlation`).
    threshold: the largest size that is healthy.
    of: which samples, in words.
  """
  if abs(correlation) <= threshold:
    return None
  longer = "longer" if correlation > 0 else "shorter"
  sentence = (
    f"The reward model prefers {longer} responses: its rewards' rank correlation with length, among"
    f" {of} to one query, is {correlation:.2f} in the mean, further from 0 than {threshold:g}. The "
    f"policy will learn the length. {_ADVICE}"
  )
  return Finding("reward_follows_length", correlation, threshold, sentence)


def separates_by_length(
  agreement: float, threshold: float, accuracy: float, longer_wins: float
) -> Finding | None:
  """Golden responses and samples that the reward model orders as their lengths do.

  Args:
    agreement: of its order with that of the longer first (`length_order.agreement`).
    threshold: the largest healthy agreement with "longer first", or with "shorter first".
    accuracy: the share of the pairs in which the golden response has the higher reward.
    longer_wins: the share in which it is the longer one; ties count half in both.
  """
  larger = max(agreement, 1 - agreement)
  if larger <= threshold:
    return None
  longer, alone = ("longer", longer_wins)
  if agreement < 0.5:
    longer, alone = ("shorter", 1 - longer_wins)
  sentence = (
    "The reward model orders golden responses and samples as length alone would: in "
    f"{larger:.1%} of the pairs that differ in length the {longer} one has the higher reward, more "
    f"than {threshold:.1%}; its accuracy is {accuracy:.3f}, that of preferring the {longer} one "
    f"{alone:.3f}. Nothing shows that it knows of quality. {_ADVICE}"
  )
  return Finding("separates_by_length", larger, threshold, sentence)
