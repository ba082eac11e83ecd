"""Who sits where when rows leave the sampler's batch and others join it."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.config.schema import SamplerConfig
from apo_jax.inference import packing, sampler
from apo_jax.inference.decoding import Drawing, Samples, State
from apo_jax.inference.packing import NOBODY, Batch, Shape, fits, groups_needed, pack, shapes
from apo_jax.inference.sampler import Sampler
from apo_jax.models.definition import define_policy
from apo_jax.run import seeds
from tests import tiny

# One token in sixteen holds one of these, so that responses end at many lengths.
LONG = SamplerConfig(
  num_samples=4,
  temperature=1.0,
  top_k=0,
  top_p=1.0,
  repetition_penalty=1.3,
  max_new_tokens=40,
  stop=("y", "k", "w", "p"),
)
QUERIES = [[1, *range(40 + n, 43 + 2 * n)] for n in range(11)]
KEYS = np.stack([seeds.derive_key(0, index) for index in range(len(QUERIES))])


@pytest.mark.parametrize(
  ("batch", "expected"),
  [
    ((8, 4, 1), [(8, 4), (8, 2), (8, 1), (4, 1)]),
    ((8, 3, 1), [(8, 3), (8, 2), (8, 1), (4, 1)]),
    ((64, 1, 1), [(64, 1), (32, 1), (16, 1), (8, 1)]),
    ((8, 1, 4), [(8, 1), (4, 1)]),  # every shard keeps a group
    ((3, 2, 1), [(3, 2), (3, 1)]),
    ((1, 1, 1), [(1, 1)]),
  ],
)
def test_shapes(batch, expected):
  assert shapes(*batch) == expected


def test_rows_of_a_query_need_groups_by_themselves():
  queries = np.array([[5, 5, 5, NOBODY], [7, NOBODY, 7, 7], [NOBODY] * 4])
  assert [groups_needed(queries, width) for width in (1, 2, 3, 4)] == [6, 4, 2, 2]
  assert fits([queries], Shape(4, 2), 1)
  assert not fits([queries], Shape(3, 2), 1)
  # In two shards the first has both queries, and the second has groups of no use to them.
  shards = np.concatenate([queries[:2], np.full((2, 4), NOBODY)])
  assert not fits([shards], Shape(6, 2), 2)
  assert fits([shards], Shape(8, 2), 2)


def make_batch(queries: np.ndarray, first: int) -> Batch:
  """A batch whose arrays name the row or group that they belong to, counted from `first`."""
  groups, width = queries.shape
  rows = first + jnp.arange(groups * width).reshape(groups, width)
  prompt = (jnp.arange(groups) + first) * jnp.ones((2, 1))
  slots = prompt[..., None, None, None]
  drawing = Drawing(
    Samples(rows[..., None], rows[..., None], rows, rows > -1),
    live=jnp.asarray(queries != NOBODY),
    keys=jnp.stack([rows, rows], axis=-1).astype(jnp.uint32),
    stop_state=rows,
    seen=None,
  )
  ring = jnp.broadcast_to(rows, (2, groups, width))[..., None, None, None]
  cache = ((slots, -slots),), ((ring, -ring),)
  state = State(*cache, prompt[0], drawing, jnp.array(first))
  return Batch(state, queries, queries * 10)


@pytest.mark.parametrize("shards", [1, 2])
def test_packed_rows_keep_what_is_theirs(shards):
  old = np.array([[5, 5, 5, NOBODY], [NOBODY] * 4, [6, NOBODY, 6, NOBODY], [7, 7, NOBODY, 7]])
  new = np.array([[8] * 4, [9] * 4])
  packed = pack([make_batch(old, 0), make_batch(new, 100)], Shape(8, 3), shards)
  assert packed.shape == (8, 3)
  taken = packed.queries != NOBODY
  expected = [5, 5, 5, 6, 6, 7, 7, 7] + [8] * 4 + [9] * 4
  assert sorted(packed.queries[taken].tolist()) == expected
  drawing = packed.state.drawing
  np.testing.assert_array_equal(drawing.live, taken)
  np.testing.assert_array_equal(packed.columns[taken], packed.queries[taken] * 10)
  source = np.concatenate([old.ravel(), np.full(100 - old.size, NOBODY), new.ravel()])
  rows = np.asarray(drawing.samples.lengths)
  np.testing.assert_array_equal(source[rows[taken]], packed.queries[taken])
  assert len(set(rows[taken].tolist())) == len(expected)
  for leaf in (drawing.samples.tokens[..., 0], drawing.stop_state, drawing.keys[..., 1]):
    np.testing.assert_array_equal(np.asarray(leaf)[taken], rows[taken])
  ((keys, values),) = packed.state.responses
  np.testing.assert_array_equal(np.asarray(keys)[:, taken, 0, 0, 0], [rows[taken]] * 2)
  np.testing.assert_array_equal(values, -keys)
  # Each group has the prompt of its rows, and no group has rows of two queries.
  used = taken.any(axis=1)
  group = np.asarray(packed.state.prompt_lengths)[used]
  for column in range(3):
    here = taken[used, column]
    from_new = rows[used, column] >= 100
    origin = np.where(from_new, 100 + (rows[used, column] - 100) // 4, rows[used, column] // 4)
    np.testing.assert_array_equal(group[here], origin[here])
  np.testing.assert_array_equal(packed.state.prompts[0][0][1, used, 0, 0, 0], group)
  assert packed.state.clock == 0
  # Rows stay in their shard.
  if shards == 2:
    assert set(packed.queries[:4][taken[:4]].tolist()) == {5, 8}
    assert set(packed.queries[4:][taken[4:]].tolist()) == {6, 7, 9}


@functools.cache
def policy():
  definition = define_policy(tiny.architecture(), tiny.mesh())
  return definition, definition.init(0)


def draw(batch_size: int, config: SamplerConfig = LONG, told=None, buckets=(16,), stacks=None):
  """Results, the shapes that were packed into, and how many functions were compiled."""
  definition, parameters = policy()
  made = Sampler(
    definition,
    tiny.codec(),
    tiny.mesh(),
    buckets=buckets,
    batch_size=batch_size,
    cache_dtype="float32",
    gather_weights=False,
  )
  if stacks is not None:
    made.form = dataclasses.replace(made.form, stacks=stacks)
  packed = []

  def spy(batches, shape, shards):
    packed.append((len(batches), shape))
    return pack(batches, shape, shards)

  with mock.patch.object(sampler, "pack", spy):
    drawn = made(parameters, QUERIES, KEYS, config, told.append if told is not None else int)
  return drawn, packed, made._functions(config)


@functools.cache
def alone():
  """Each query in a batch of its own, which never shrinks."""
  with mock.patch.object(sampler, "STEPS_WORTH_PACKING", 1000):
    return draw(1)[0]


def assert_same(actual, expected):
  for ours, theirs in zip(actual, expected, strict=True):
    assert [one.response for one in ours] == [one.response for one in theirs]
    logprobs = [[one.logprob for one in row] for row in (ours, theirs)]
    np.testing.assert_allclose(*logprobs, rtol=1e-5)


def test_responses_end_at_many_lengths():
  lengths = [len(one.response.tokens) for row in alone() for one in row]
  assert min(lengths) < 4 and max(lengths) == 40 and len(set(lengths)) > 12


@pytest.mark.parametrize("batch_size", [pytest.param(2, marks=pytest.mark.slow), 16])
def test_neither_shrinking_nor_joining_changes_a_sample(batch_size):
  told = []
  drawn, packed, functions = draw(batch_size, told=told)
  assert_same(drawn, alone())
  assert sum(told) == len(QUERIES)
  allowed = shapes(batch_size, 4, 1)
  assert {shape for _, shape in packed} <= set(allowed)
  if batch_size == 4:
    assert sum(len_ > 1 for len_, _ in packed) > 2  # queries joined it, more than at the start
  else:
    assert any(shape != allowed[0] for _, shape in packed)  # it shrank
  assert functions.start._cache_size() == 1
  assert functions.decode._cache_size() <= len(allowed)


@pytest.mark.slow
def test_scanned_layers_give_the_same_samples():
  assert_same(draw(4, stacks=1)[0], alone())


@pytest.mark.slow
def test_one_long_response_does_not_hold_the_others():
  """Of all steps times rows, most are spent on live rows; one batch until its end spends fewer."""
  rows = []
  decode = sampler.decode

  def count(policy, state, steps, choose, stacks):
    after = decode(policy, state, steps, choose, stacks)
    steps = after.clock - state.clock
    jax.debug.callback(lambda n: rows.append(int(n)), steps * state.drawing.live.size)
    return after

  with mock.patch.object(sampler, "decode", count):
    draw(4)
    jax.effects_barrier()
    packed, rows = sum(rows), []
    with mock.patch.object(sampler, "STEPS_WORTH_PACKING", 1000):
      draw(len(QUERIES) + 1)
    jax.effects_barrier()
  assert packed < 0.75 * sum(rows)


@pytest.mark.slow
def test_short_responses_are_never_packed():
  config = dataclasses.replace(LONG, max_new_tokens=packing.STEPS_WORTH_PACKING)
  _, packed, functions = draw(2, config, buckets=(8, 16))
  assert {shape for _, shape in packed} == {(2, 4)}  # only ever to fill the batch
  assert functions.decode._cache_size() == functions.start._cache_size() == 2
