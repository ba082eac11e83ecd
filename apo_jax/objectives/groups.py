"""Statistics of a query's responses, of those that are valid: means, spreads, win rates."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from apo_jax.objectives.policy_loss import ScoredResponses

# What stands for a response that is not there before a softmax. It is finite: 0 times minus
# infinity would be nan in the backward pass.
ABSENT = -1e9


def log_ratios(responses: ScoredResponses) -> Float[Array, "B R"]:
  """Returns log pi(y | x) - log pi_ref(y | x) in nats, float32; 0 where not valid."""
  reference = responses.reference_logprobs.astype(jnp.float32)
  return jnp.where(responses.valid, responses.logprobs.astype(jnp.float32) - reference, 0.0)


def per_token(values: Float[Array, "B R"], responses: ScoredResponses) -> Float[Array, "B R"]:
  """Returns what is a sum over a response's drawn tokens as a mean, float32; 0 where not valid."""
  lengths = jnp.maximum(responses.lengths, 1).astype(jnp.float32)
  return jnp.where(responses.valid, values.astype(jnp.float32) / lengths, 0.0)


def present(values: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Float[Array, "B R"]:
  """Returns the values in float32, `ABSENT` where not valid."""
  return jnp.where(valid, values.astype(jnp.float32), ABSENT)


def comparable(valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
  """Returns the responses to queries that have at least two."""
  return valid & (jnp.sum(valid, axis=1, keepdims=True) >= 2)


def differing(rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Bool[Array, "B R"]:
  """Returns the responses to queries whose rewards are not all equal."""
  rewards = rewards.astype(jnp.float32)
  largest = jnp.max(jnp.where(valid, rewards, -jnp.inf), axis=1, keepdims=True)
  smallest = jnp.min(jnp.where(valid, rewards, jnp.inf), axis=1, keepdims=True)
  return valid & (largest > smallest)


def centred(rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Float[Array, "B R"]:
  """Returns each reward less the mean of its query's, float32; 0 where not valid.

  Equal rewards give exactly 0, however their mean is rounded.
  """
  rewards = jnp.where(valid, rewards.astype(jnp.float32), 0.0)
  count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1)
  mean = jnp.sum(rewards, axis=1, keepdims=True) / count
  return jnp.where(differing(rewards, valid), rewards - mean, 0.0)


def standardised(rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Float[Array, "B R"]:
  """Returns `centred` in units of the query's standard deviation (over n, not n - 1), or 0."""
  deviations = centred(rewards, valid)
  count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1)
  # In units of the largest first: squares of small rewards would vanish.
  largest = jnp.max(jnp.abs(deviations), axis=1, keepdims=True)
  deviations = deviations / jnp.where(largest > 0, largest, 1.0)
  variance = jnp.sum(jnp.square(deviations), axis=1, keepdims=True) / count
  return deviations / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))


def win_rates(rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]) -> Float[Array, "B R"]:
  """Returns how often each response is preferred to the others of its query, in [0, 1].

      P_ij = sigmoid(r_i - r_j)         preferred by the reward model's own Bradley-Terry
      w_i  = sum over j != i of P_ij / (n - 1)

  The sampled estimate of E[P(y preferred to y' | x)] over y' of the policy that drew the responses.

  Args:
    rewards: float [B, R], finite where valid.
    valid: bool [B, R], False marks padding.

  Returns:
    float32 [B, R]; 0 where not valid, and where a query has one response.
  """
  rewards = jnp.where(valid, rewards.astype(jnp.float32), 0.0)
  others = valid[:, :, None] & valid[:, None, :] & ~jnp.eye(valid.shape[1], dtype=bool)
  wins = jax.nn.sigmoid(rewards[:, :, None] - rewards[:, None, :])
  count = jnp.maximum(jnp.sum(others, axis=2), 1)
  return jnp.sum(jnp.where(others, wins, 0.0), axis=2) / count
