"""Samples that teach nothing: empty, unfinished, repeating themselves, all alike."""

from apo_jax.evaluation.health.finding import BRANCH, Finding


def are_empty(share: float, threshold: float, of: str) -> Finding | None:
  """Samples that say nothing; `of` names the samples in words, here and below."""
  if share <= threshold:
    return None
  sentence = (
    f"{share:.1%} of {of} are empty, more than {threshold:.1%}: the policy learns to fall silent, "
    "or a stop string ends its responses before they begin. Look at the samples and at "
    "config.sampling's stop strings; try a smaller config.policy.training.learning_rate."
    f" {BRANCH}"
  )
  return Finding("samples_empty", share, threshold, sentence)


def are_unfinished(share: float, threshold: float, of: str, sampler: str) -> Finding | None:
  """Samples that ran into the limit of their sampler; `sampler` is its field."""
  if share <= threshold:
    return None
  sentence = (
    f"{share:.1%} of {of} ran into the limit of tokens, more than {threshold:.1%}: they are judged "
    f"without their end, or never learned from. Try a larger {sampler}.max_new_tokens, a longer "
    'supervised start, or a price for it: config.policy.shapings=("missing_end",).'
  )
  return Finding("samples_unfinished", share, threshold, sentence)


def repeat_themselves(share: float, threshold: float, of: str, sampler: str) -> Finding | None:
  """Samples that say again what they have said; `share` is the mean of `text.repetition`."""
  if share <= threshold:
    return None
  sentence = (
    f"{of[0].upper()}{of[1:]} repeat themselves: of a response's runs of four words, {share:.1%} "
    f"have stood in it before, more than {threshold:.1%}. The policy degenerates, or is exploiting "
    f"a reward model that does not mind. Try a higher {sampler}.temperature, a smaller "
    "config.policy.training.learning_rate, or preferences that show repetition as bad. "
    f"{BRANCH}"
  )
  return Finding("samples_repeated", share, threshold, sentence)


def are_alike(distinct: float, threshold: float, of: str, sampler: str) -> Finding | None:
  """Samples to a query that are one and the same.

  Args:
    distinct: different samples to a query, as a share of all that are drawn for it.
    threshold: the least that is healthy.
    of: which samples, in words.
    sampler: the field of their sampler.
  """
  if distinct >= threshold:
    return None
  sentence = (
    f"{of[0].upper()}{of[1:]} are alike: {distinct:.1%} of those drawn for a query differ from the "
    f"others before them, fewer than {threshold:.1%}. Equal ones form no pair, so the policy has "
    f"little to choose from. Try a higher {sampler}.temperature, or top_p and top_k that cut less."
  )
  return Finding("samples_alike", distinct, threshold, sentence)
