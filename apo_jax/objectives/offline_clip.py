"""The clipped offline policy gradient of SPAG, on rewards within a query."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from apo_jax.objectives.groups import centred, comparable, log_ratios, per_token, standardised
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranges import NonNegativeFloat, PositiveFloat
from apo_jax.objectives.sums import Sums

# A worse response's cost grows with its ratio, which no clip bounds: exp of a mean over tokens that
# has gone so far from the reference (nats) would be infinite in the end.
_LARGEST_LOG_RATIO = 20.0


@dataclasses.dataclass(frozen=True)
class OfflineClip(PolicyLoss):
  """The offline objective of SPAG (arXiv 2404.10642), a mean over responses.

      d(y)  = (log pi(y | x) - log pi_ref(y | x)) / |y|
      ratio = exp(d)
      A     = r - mean of r over the query's responses - kl_coefficient * d, a constant
      L     = -min(A * ratio, A * clip(ratio, 1 - clip, 1 + clip))

  Queries with one response do not count. Equation and defaults are those of the authors' code,
  which it is checked against, but for three things. Their rewards are outcomes of a game, around 0
  by themselves; ours are centred within the query. They let the gradient run through the KL term
  inside A; here A is a constant, as an advantage is in a policy gradient. And their batches hold
  rows of other data that are imitated, which ours do not.

  Attributes:
    clip: how far the ratio moves from 1 before a response is left alone.
    kl_coefficient: what a nat a token away from the reference takes off the advantage.
    normalise: divide centred rewards by the query's standard deviation.
  """

  name: ClassVar[str] = "offline_clip"
  clip: PositiveFloat = 0.2
  kl_coefficient: NonNegativeFloat = 0.2
  normalise: bool = False

  def __call__(self, responses: ScoredResponses) -> Sums:
    """Returns sums over responses; the metric `clipped` counts those that are left alone."""
    rewards, valid = responses.rewards, responses.valid
    rated = comparable(valid)
    advantages = standardised(rewards, valid) if self.normalise else centred(rewards, valid)
    drift = jnp.minimum(per_token(log_ratios(responses), responses), _LARGEST_LOG_RATIO)
    advantages = jax.lax.stop_gradient(advantages - self.kl_coefficient * drift)
    ratios = jnp.exp(drift)
    clipped = jnp.clip(ratios, 1 - self.clip, 1 + self.clip)
    costs = -jnp.minimum(advantages * ratios, advantages * clipped)
    is_clipped = rated & (advantages * clipped < advantages * ratios)
    return Sums(
      total=jnp.sum(jnp.where(rated, costs, 0.0)),
      count=jnp.sum(rated, dtype=jnp.float32),
      metrics={"clipped": jnp.sum(is_clipped, dtype=jnp.float32)},
    )
