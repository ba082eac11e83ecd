"""What a replay finds of a batch: shares that add up, and the array where numbers end."""

import functools

import jax
import numpy as np
import optax
import pytest

from apo_jax.devices.sharding import place_batch
from apo_jax.models.definition import define_reward_model
from apo_jax.objectives import APO
from apo_jax.policy_step import policy_loss_parts
from apo_jax.replay.examination import examine
from apo_jax.replay.rows import rows_of
from apo_jax.reward_step import reward_loss_parts
from apo_jax.training.optimization import init_state
from tests import batches, tiny

LOSS = tiny.config().policy.loss


def found(parts, definition, parameters, batch, accumulation=2):
  state = init_state(definition, optax.identity(), parameters)
  placed = place_batch(tiny.mesh(), batch, 8)
  return examine(parts, definition, accumulation, state, placed, {}, tiny.NO_KEY)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(parts, said, batch):
  """The loss of the whole batch."""
  sums = parts.measure(said, batch)
  totals, counts = ({name: one[place] for name, one in sums.items()} for place in (0, 1))
  return parts.combine(totals, counts, None)[0]


@pytest.fixture(scope="module")
def reward_model():
  definition = define_reward_model(tiny.architecture(), "last", tiny.mesh())
  return definition, definition.init(0)


def test_shares_of_a_policys_rows_add_up():
  parts, batch = policy_loss_parts(LOSS), batches.policy_batch(shared=True)
  examined = found(parts, *tiny.policy(), batch)
  rows = rows_of(parts, examined.said, batch)
  assert sum(row.loss for row in rows) == pytest.approx(
    float(loss_of(parts, examined.said, batch)), rel=1e-4
  )
  groups = [value**2 for name, value in examined.gradients.items() if name != "all"]
  assert sum(groups) == pytest.approx(examined.gradients["all"] ** 2, rel=1e-4)
  assert not examined.not_finite and "layers.query" in examined.gradients
  assert [row.number for row in rows] == [0, 1, 2, 4, 5, 6, 7]  # the fourth query has no response
  first = rows[0].responses[1]
  assert first.numbers["reward"] == pytest.approx(float(batch.rewards[0, 1]))
  assert first.numbers["logprob"] == pytest.approx(float(examined.said[0][0, 1]))
  # What is read in micro-batches comes back in the order of the batch.
  policy, (definition, parameters) = parts.forward, tiny.policy()
  whole = jax.jit(lambda parameters, batch: policy(definition.bind(parameters), batch, None))
  said = whole(parameters, place_batch(tiny.mesh(), batch, 8))
  np.testing.assert_allclose(examined.said[0], said[0], rtol=1e-4)
  tokens, segments = (np.asarray(array)[0] for array in batch.rows[:2])
  assert first.ids == tokens[segments == 3].tolist()
  assert rows[0].query == tokens[segments == 1].tolist()


def test_shares_of_a_reward_models_rows_add_up(reward_model):
  parts = reward_loss_parts(APO(golden_coefficient=0.7, reduction="reference"), num_samples=3)
  batch = batches.reward_batch()
  examined = found(parts, *reward_model, batch, accumulation=1)
  rows = rows_of(parts, examined.said, batch)
  assert sum(row.loss for row in rows) == pytest.approx(
    float(loss_of(parts, examined.said, batch)), rel=1e-4
  )
  assert {row.kind for row in rows} == {"preference", "golden"}
  golden = next(row for row in rows if row.kind == "golden" and row.number == 1)
  assert [one.numbers["score"] for one in golden.responses] == [1, 0, 0, 0]
  assert golden.responses[2].numbers["reward"] == pytest.approx(
    float(examined.said[1].rewards[1, 2])
  )
  assert golden.loss > 0


def test_the_first_array_that_is_not_finite_is_named():
  parts, (definition, parameters), batch = (
    policy_loss_parts(LOSS),
    tiny.policy(),
    batches.policy_batch(shared=True),
  )
  rewards = np.where(np.arange(3) == 1, np.nan, batch.rewards).astype(np.float32)
  examined = found(parts, definition, parameters, batch._replace(reference_logprobs=rewards))
  assert examined.not_finite[0] == ("the batch's reference_logprobs", 8, 24)
  assert "the gradient of embedding" in {name for name, _, _ in examined.not_finite}
  broken = jax.tree.map(lambda leaf: leaf, parameters)
  broken["layers"]["up"] = broken["layers"]["up"].at[0, 0, 0].set(np.inf)
  examined = found(parts, definition, broken, batch)
  assert examined.not_finite[0] == ("the parameter layers.up", 1, parameters["layers"]["up"].size)
  assert examined.largest == ("layers.up", np.inf)
