"""A policy whose KL to the start explodes."""

from apo_jax.evaluation.health.finding import BRANCH, Finding

# Below so many nats a response nothing explodes, and a factor is one of two small numbers' noise.
_LEAST_KL = 1.0
_ADVICE = (
  "Try a smaller config.policy.training.learning_rate or fewer config.policy.training.epochs, with"
  " DPO a larger config.policy.dpo.beta, or"
  ' config.policy.start="base" with config.policy.reference="initial". '
  f"{BRANCH}"
)


def is_far(kl: float, threshold: float) -> Finding | None:
  """A policy far from its start; `kl` and `threshold` in nats a response."""
  if kl <= threshold:
    return None
  sentence = (
    f"The policy is {kl:.1f} nats a response away from the supervised start, more than "
    f"{threshold:g}: it says what neither the start nor the reward model's data holds, where "
    f"rewards mean little. {_ADVICE}"
  )
  return Finding("kl_is_large", kl, threshold, sentence)


def explodes(kl: float, previous: float, threshold: float) -> Finding | None:
  """A KL that has grown by a large factor in a round.

  Args:
    kl: to the start, in nats a response.
    previous: the same one round before.
    threshold: the largest factor that is healthy.
  """
  if kl <= _LEAST_KL or previous <= 0 or kl / previous <= threshold:
    return None
  sentence = (
    f"The policy's KL to the supervised start grew {kl / previous:.1f}-fold in a round, from "
    f"{previous:.2f} to {kl:.2f} nats a response, more than {threshold:g}-fold: its steps get "
    f"larger. {_ADVICE}"
  )
  return Finding("kl_grows", kl / previous, threshold, sentence)
