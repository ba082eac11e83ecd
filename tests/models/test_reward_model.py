"""Pooling rules by hand, and what a reward may depend on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.models.definition import (
  define_policy,
  define_reward_model,
  trunk_of,
)
from apo_jax.models.reward_model import pool
from apo_jax.rows.rows import Response, make_rows
from tests import tiny

VOCABULARY = 128
CONFIG = tiny.architecture(vocab_size=VOCABULARY)
EOS = 1
HIDDEN = jnp.array([[[1.0, 5.0], [2.0, 4.0], [3.0, 9.0], [8.0, 8.0]]])
PRESENT = jnp.array([[[True, True, True, False]]])
ENDS = jnp.array([[False, False, True, False]])


@pytest.mark.parametrize(
  ("pooling", "expected"),
  [
    ("last", [2.0, 4.0]),  # the token before the end
    ("eos", [3.0, 9.0]),
    ("average", [2.0, 6.0]),
    ("max", [3.0, 9.0]),
  ],
)
def test_pooling_by_hand(pooling, expected):
  np.testing.assert_allclose(pool(HIDDEN, PRESENT, ENDS, pooling)[0, 0], expected)
  moved = jnp.roll(HIDDEN, 1, axis=1)  # padding on the left
  present, ends = jnp.roll(PRESENT, 1, axis=2), jnp.roll(ENDS, 1, axis=1)
  np.testing.assert_allclose(pool(moved, present, ends, pooling)[0, 0], expected)


def test_without_an_end_the_last_token_is_the_last():
  """The one before it was read, as if an end stood there."""
  for pooling in ("last", "eos"):
    np.testing.assert_allclose(pool(HIDDEN, PRESENT, ~ENDS & False, pooling)[0, 0], [3.0, 9.0])


@pytest.mark.parametrize(
  ("pooling", "expected"),
  [
    ("last", [[1.0, 5.0], [1.0, 5.0]]),  # of an eos alone the token before is the query's last
    ("eos", [[2.0, 4.0], [8.0, 8.0]]),
    ("average", [[1.5, 4.5], [4.5, 6.5]]),
    ("max", [[2.0, 5.0], [8.0, 8.0]]),
  ],
)
def test_pooling_of_two_sequences_in_a_row_by_hand(pooling, expected):
  """The first slot is of both, the second of one, the last of the other."""
  present = jnp.array([[[True, True, False, False], [True, False, False, True]]])
  ends = jnp.array([[False, True, False, True]])
  np.testing.assert_allclose(pool(HIDDEN, present, ends, pooling)[0], expected)


@pytest.mark.parametrize("pooling", ["last", "eos", "average", "max"])
def test_a_row_of_padding_is_finite(pooling):
  assert np.isfinite(pool(HIDDEN, jnp.zeros((1, 1, 4), bool), ENDS, pooling)).all()


@functools.cache
def reward_model(pooling: str):
  """The definition, its parameters (which no pooling changes) and its jitted forward pass."""
  definition = define_reward_model(CONFIG, pooling, tiny.mesh())
  parameters = definition.init(0) if pooling == "last" else reward_model("last")[1]
  run = jax.jit(lambda parameters, *arrays: definition.bind(parameters)(*arrays))
  return definition, parameters, run


def rewards(pooling: str, responses: list[list[int]], length: int = 10) -> np.ndarray:
  _, parameters, run = reward_model(pooling)
  items = [([3, 4, 5], [Response(response) for response in responses])]
  rows = make_rows(items, len(responses), length, EOS)
  return np.asarray(run(parameters, *(jnp.asarray(array[0]) for array in rows.read)))[:, 0]


def test_last_reads_what_eos_cannot_change():
  """With `last` the final token is not read, with `eos` it is."""
  tokens = jnp.array([[3, 4, 5, 6, EOS], [3, 4, 5, 6, 9]])
  segments, positions = jnp.ones_like(tokens), jnp.broadcast_to(jnp.arange(5), (2, 5))
  ends = positions == 4

  def difference(pooling: str) -> float:
    _, parameters, run = reward_model(pooling)
    first, second = run(parameters, tokens, segments, positions, ends)[:, 0]
    return abs(float(first - second))

  assert difference("last") == 0.0
  assert difference("eos") > 1e-4


@pytest.mark.parametrize("pooling", ["last", "eos", "average", "max"])
def test_rewards_depend_on_neither_batch_nor_padding(pooling):
  responses = [[6, 7], [8], [9, 10, 11]]
  together = rewards(pooling, responses)
  alone = np.concatenate([rewards(pooling, [response], 9) for response in responses])
  np.testing.assert_allclose(together, alone, atol=1e-5)
  assert np.ptp(together) > 1e-3


def test_no_array_has_logits():
  """No [B, T, V] array anywhere in the reward model, forward or backward."""
  definition, _, _ = reward_model("last")
  tokens = jax.ShapeDtypeStruct((3, 7), jnp.int32)

  def loss(parameters, tokens):
    return jnp.sum(definition.bind(parameters)(tokens, tokens, tokens, tokens > 0))

  text = jax.jit(jax.grad(loss)).lower(definition.abstract, tokens).as_text()
  assert "3x7x32" in text  # the hidden states are found by this way of looking
  assert f"3x7x{VOCABULARY}" not in text
  assert f"21x{VOCABULARY}" not in text
  assert "lm_head" not in definition.abstract["trunk"]


def test_a_policys_trunk_is_all_of_a_reward_model_but_the_head():
  policy = define_policy(CONFIG, tiny.mesh()).init(1)
  _, fresh, _ = reward_model("last")
  made = {"trunk": trunk_of(policy), "reward_head": fresh["reward_head"]}
  assert jax.tree.structure(made) == jax.tree.structure(fresh)
