"""The reward step with terms and weights that need more than rewards: GRM, MORE, embeddings."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.models.logprobs import sequence_logprobs
from apo_jax.objectives import (
  APO,
  GRM,
  FixedWeights,
  MinNorm,
  RewardTerm,
  ScoredRewards,
  Sums,
  head_gradients,
)
from apo_jax.reward_step import make_reward_update
from apo_jax.rows.reading import as_sequences
from apo_jax.training.optimization import init_state, make_optimizer
from tests import batches, tiny

# A head of its own, and logits of a few tokens at a time.
ARCHITECTURE = tiny.architecture(tied_embeddings=False, logits_at_once=8 * 384 * 4)
TRAINING = dataclasses.replace(
  tiny.config().policy.training, learning_rate=1e-3, warmup_steps=0, clip_norm=1e9
)
TERM, LOSS = GRM(coefficient=0.25, data="both", beta=0.2), APO()


@pytest.fixture(scope="module", autouse=True)
def additions():
  """Terms of this file alone."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(RewardTerm, "known", dict(RewardTerm.known))
    yield


@functools.cache
def reward_model():
  definition = define_reward_model(ARCHITECTURE, "last", tiny.mesh(), language_head=True)
  return definition, definition.init(0)


@functools.cache
def judged(shared: bool):
  """What the reward model says of the batch's preferences, every token read; and their rows."""
  definition, parameters = reward_model()
  batch = batches.reward_batch(shared=shared)
  rows, held = as_sequences(batch.preferences, 3)

  @jax.jit
  def judge(parameters, rows):
    wanted = rows.response_mask | rows.ends
    model = definition.bind(parameters)
    found = model.judge(rows, held, embeddings=True, logprobs_of=wanted)
    moved = parameters | {"reward_head": 2 * parameters["reward_head"]}
    again = definition.bind(moved).judge(rows, held, logprobs_of=wanted)
    return found, again, model(*rows.read, held)

  rows = jax.tree.map(jnp.asarray, rows)
  return *judge(parameters, rows), rows, held


@pytest.mark.parametrize("shared", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_reward_model_speaks_as_the_policy_of_its_weights(shared):
  found, again, rewards, rows, held = judged(shared)
  policy, (_, parameters) = define_policy(ARCHITECTURE, tiny.mesh()), reward_model()
  # With the end that a reward model reads, drawn or not.
  rows = rows._replace(response_mask=rows.response_mask | rows.ends)

  def logprobs(parameters):
    return sequence_logprobs(policy.bind(parameters), rows, held)

  np.testing.assert_allclose(
    found.logprobs, jax.jit(logprobs)(parameters["trunk"]), rtol=1e-5, atol=1e-5
  )
  assert np.ptp(found.logprobs) > 1
  # The reward head moves rewards alone.
  np.testing.assert_array_equal(found.logprobs, again.logprobs)
  np.testing.assert_allclose(again.rewards, 2 * found.rewards, rtol=1e-5)
  np.testing.assert_array_equal(found.rewards, rewards)
  product = found.embeddings @ parameters["reward_head"]
  np.testing.assert_allclose(found.rewards, product, rtol=1e-5, atol=1e-6)


# Of the batch's preferences, the last of which is padding.
SUBSETS = np.array([0, 1, 2, 1, 0, 2, 0, -1], np.int32)


@functools.cache
def updated(accumulation: int = 1, terms=(TERM,), weighting=None, shared: bool = True, subsets=()):
  definition, parameters = reward_model()
  optimizer = make_optimizer(TRAINING, 10)
  update = make_reward_update(
    definition,
    optimizer,
    LOSS,
    tiny.mesh(),
    num_samples=3,
    terms=terms,
    weighting=MinNorm() if weighting is None else weighting,
    subsets=subsets,
    accumulation=accumulation,
  )
  batch = batches.reward_batch(shared=shared)
  if subsets:
    batch = batch._replace(preference_subsets=SUBSETS)
  return update(init_state(definition, optimizer, parameters), batch, {}, tiny.NO_KEY)


@pytest.mark.slow
def test_the_loss_is_that_of_the_whole_batch_s_parts():
  """Of what the model says of all rows by itself; the update reads them in micro-batches."""
  batch = batches.reward_batch(shared=True)
  definition, parameters = reward_model()

  @jax.jit
  def judge(parameters, *data):
    model, found = definition.bind(parameters), []
    for rows, scores in data:
      rows, held = as_sequences(rows, scores.shape[1])
      wanted = rows.response_mask | rows.ends
      found.append(model.judge(rows, held, embeddings=True, logprobs_of=wanted))
    return found

  parts = judge(parameters, batch[:2], batch[2:4])
  scored = ScoredRewards(
    parts[0].rewards,
    jnp.asarray(batch.preference_scores),
    parts[1].rewards,
    jnp.asarray(batch.golden_scores),
    jnp.asarray(batch.golden_twins),
    *(one.embeddings for one in parts),
    *(one.logprobs for one in parts),
  )
  sums, term = LOSS(scored), TERM(scored)
  gradients = head_gradients(LOSS, scored)
  counts = {name: sums[name].count for name in gradients}
  means = {name: sums[name].mean for name in gradients}
  gradients = {name: one / counts[name] for name, one in gradients.items()}
  weights = MinNorm().weights(gradients, means, counts)
  assert 0.01 < weights["golden"] < 0.99
  expected = sum(weights[name] * means[name] for name in means) + 0.25 * term.mean
  _, metrics = updated(accumulation=4)
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
  np.testing.assert_allclose(metrics["grm_loss"], term.mean, rtol=1e-5)
  for name in means:
    np.testing.assert_allclose(metrics[f"{name}_weight"], weights[name], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("subsets", [(), ("a", "b", "c")])
def test_micro_batches_have_the_whole_batch_s_weights(subsets):
  (state, metrics), (others, other_metrics) = (
    updated(accumulation, subsets=subsets) for accumulation in (1, 4)
  )
  assert metrics.keys() == other_metrics.keys()
  for name, value in metrics.items():
    np.testing.assert_allclose(value, other_metrics[name], rtol=1e-4, atol=1e-5, err_msg=name)
  same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(same, state.parameters, others.parameters)


def test_subsets_of_preferences_are_weighed_by_themselves():
  _, metrics = updated(4, subsets=("a", "b", "c"))
  names = ["preference_a", "preference_b", "preference_c", "golden"]
  weights = [float(metrics[f"{name}_weight"]) for name in names]
  assert sum(weights) == pytest.approx(1.0, rel=1e-5) and min(weights) >= 0.00099
  assert len({round(one, 3) for one in weights}) > 2  # not all at the edge
  value = sum(weight * metrics[f"{name}_loss"] for weight, name in zip(weights, names, strict=True))
  np.testing.assert_allclose(metrics["loss"], value + 0.25 * metrics["grm_loss"], rtol=1e-5)
  _, plain = updated(4)
  np.testing.assert_allclose(metrics["preference_loss"], plain["preference_loss"], rtol=1e-6)
  np.testing.assert_allclose(metrics["golden_loss"], plain["golden_loss"], rtol=1e-6)


@pytest.mark.slow
def test_without_a_coefficient_the_regulariser_changes_nothing():
  silent = dataclasses.replace(TERM, coefficient=0.0)
  state, metrics = updated(terms=(silent,), weighting=FixedWeights())
  plain, plain_metrics = updated(terms=(), weighting=FixedWeights())
  np.testing.assert_allclose(metrics["loss"], plain_metrics["loss"], rtol=1e-6)
  same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  jax.tree.map(same, state.parameters, plain.parameters)
  moved, _ = updated(weighting=FixedWeights())
  assert np.abs(moved.parameters["trunk"]["head"] - plain.parameters["trunk"]["head"]).max() > 1e-4


@pytest.mark.slow
def test_a_term_may_read_embeddings():
  @dataclasses.dataclass(frozen=True)
  class Short(RewardTerm):
    """The squared length of the embeddings of preferences."""

    name: ClassVar[str] = "short"
    needs_embeddings: ClassVar[bool] = True

    def __call__(self, rewards: ScoredRewards) -> Sums:
      there = rewards.preference_scores >= 0
      squares = jnp.sum(jnp.square(rewards.preference_embeddings), axis=-1)
      return Sums(jnp.sum(jnp.where(there, squares, 0.0)), jnp.sum(there, dtype=jnp.float32), {})

  found = judged(True)[0].embeddings
  there = batches.reward_batch(shared=True).preference_scores >= 0
  _, metrics = updated(terms=(Short(),), weighting=FixedWeights())
  expected = np.sum(np.square(found), axis=-1)[there].mean()
  np.testing.assert_allclose(metrics["short_loss"], expected, rtol=1e-5)
