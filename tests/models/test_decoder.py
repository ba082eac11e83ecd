"""The decoder against a plain NumPy forward pass, and the invariances of its masks and cache."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from apo_jax.models.architecture import LayerKind, Rope
from apo_jax.models.attention import attention_mask
from apo_jax.models.cache import Place, new_cache, split_stack
from apo_jax.models.decoder import Decoder
from apo_jax.models.definition import define_policy
from apo_jax.rows.rows import PADDING_SEGMENT, RESPONSE_SEGMENT, SHARED_SEGMENT
from tests import tiny

VOCABULARY = 128
CONFIG = tiny.architecture(vocab_size=VOCABULARY)
(ROPE,) = {kind.rope for kind in CONFIG.kinds}


STRETCHED = Rope(500.0, "yarn", 4.0, original_length=64, amplitude=1.2)

# Every switch on, and layers of different kinds.
SWITCHED = dataclasses.replace(
  CONFIG,
  kinds=(LayerKind(ROPE, window=3), LayerKind(None), LayerKind(STRETCHED)),
  activation="gelu_tanh",
  attention_bias=True,
  query_key_norms="heads",
  rotary_dim=4,
  unit_offset_norms=True,
  pre_norms=False,
  post_norms=True,
  embedding_scale=4.0,
  residual_scale=0.7,
  logits_scale=1.5,
  attention_softcap=5.0,
  logits_softcap=10.0,
)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
  return Decoder(CONFIG, nnx.Rngs(params=0))


@pytest.fixture(scope="module", params=["plain", "switched"])
def either(request) -> Decoder:
  """The plain decoder, and one with every switch on."""
  if request.param == "plain":
    return Decoder(CONFIG, nnx.Rngs(params=0))
  return switched_decoder()


@functools.cache
def switched_decoder() -> Decoder:
  """A decoder with every switch on; its norms and biases have left their start."""
  switched = Decoder(SWITCHED, nnx.Rngs(params=0))
  leaves, structure = jax.tree.flatten(nnx.state(switched))
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [x + 0.1 * jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
  nnx.update(switched, jax.tree.unflatten(structure, moved))
  return switched


def forward(decoder: Decoder, tokens, segments=None, positions=None):
  tokens = jnp.asarray(tokens)
  segments = jnp.ones_like(tokens) if segments is None else jnp.asarray(segments)
  if positions is None:
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  graphdef, parameters = nnx.split(decoder)
  return np.asarray(_logits(graphdef, parameters, tokens, segments, jnp.asarray(positions)))


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef, parameters, tokens, segments, positions):
  decoder = nnx.merge(graphdef, parameters)
  return decoder.logits(decoder(tokens, segments, positions)[0])


def numpy_forward(parameters: dict, tokens: list[int]) -> np.ndarray:
  """The same transformer written from its equations in float64, one token pair at a time."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), parameters)
  layers = p["layers"]

  def norm(x, scale):
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + CONFIG.norm_epsilon) * scale

  def rope(vector, position):
    half = len(vector) // 2
    out = np.empty_like(vector)
    for i in range(half):
      angle = position * ROPE.theta ** (-i / half)
      out[i] = vector[i] * np.cos(angle) - vector[i + half] * np.sin(angle)
      out[i + half] = vector[i + half] * np.cos(angle) + vector[i] * np.sin(angle)
    return out

  x = p["embedding"][tokens]
  for layer in range(CONFIG.layers):
    h = norm(x, layers["attention_norm"][layer])
    attended = np.zeros((len(tokens), CONFIG.heads, CONFIG.head_dim))
    for head in range(CONFIG.heads):
      group = head // (CONFIG.heads // CONFIG.kv_heads)
      q = [rope(v, t) for t, v in enumerate(h @ layers["query"][layer][:, head])]
      k = [rope(v, t) for t, v in enumerate(h @ layers["key"][layer][:, group])]
      v = h @ layers["value"][layer][:, group]
      for t in range(len(tokens)):
        scores = np.array([q[t] @ k[s] for s in range(t + 1)]) / np.sqrt(CONFIG.head_dim)
        weights = np.exp(scores - scores.max())
        attended[t, head] = (weights / weights.sum()) @ v[: t + 1]
    x = x + np.einsum("thn,hnd->td", attended, layers["output"][layer])
    h = norm(x, layers["mlp_norm"][layer])
    gate = h @ layers["gate"][layer]
    x = x + (gate / (1 + np.exp(-gate)) * (h @ layers["up"][layer])) @ layers["down"][layer]
  table = p["embedding"] if CONFIG.tied_embeddings else p["head"]
  return norm(x, p["final_norm"]) @ table.T


def test_logits_equal_a_plain_forward_pass(decoder):
  tokens = [3, 14, 15, 9, 2, 6, 5]
  expected = numpy_forward(nnx.to_pure_dict(nnx.state(decoder)), tokens)
  np.testing.assert_allclose(forward(decoder, [tokens])[0], expected, atol=2e-5)


def test_untied_head_is_used():
  config = dataclasses.replace(CONFIG, tied_embeddings=False)
  untied = Decoder(config, nnx.Rngs(params=0))
  before = forward(untied, [[1, 2, 3]])
  untied.head[...] = 2 * untied.head[...]
  np.testing.assert_allclose(forward(untied, [[1, 2, 3]]), 2 * before, rtol=1e-6)


def test_the_future_is_not_seen(either):
  tokens = np.array([[3, 14, 15, 9, 2, 6, 5]])
  changed = tokens.copy()
  changed[0, 4:] = [7, 8, 1]
  before, after = forward(either, tokens), forward(either, changed)
  np.testing.assert_array_equal(before[:, :4], after[:, :4])
  assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-3


def test_padding_on_either_side_changes_nothing(either):
  tokens = np.array([[3, 14, 15, 9]])
  plain = forward(either, tokens)[0]
  right = forward(either, [[3, 14, 15, 9, 7, 7]], [[1, 1, 1, 1, 0, 0]])[0, :4]
  left = forward(either, [[7, 7, 3, 14, 15, 9]], [[0, 0, 1, 1, 1, 1]], [[0, 0, 0, 1, 2, 3]])[0, 2:]
  np.testing.assert_allclose(right, plain, atol=1e-5)
  np.testing.assert_allclose(left, plain, atol=1e-5)


def test_responses_behind_a_shared_query_equal_separate_rows(either):
  query, first, second = [3, 14, 15], [9, 2], [6, 5, 4]
  shared = forward(
    either,
    [query + first + second],
    [[SHARED_SEGMENT] * 3 + [2] * 2 + [3] * 3],
    [[0, 1, 2, 3, 4, 3, 4, 5]],
  )[0]
  alone = [forward(either, [query + response])[0] for response in (first, second)]
  np.testing.assert_allclose(shared[:5], alone[0], atol=1e-5)
  np.testing.assert_allclose(shared[5:], alone[1][3:], atol=1e-5)


@pytest.mark.parametrize("stacks", [1, 3])
def test_steps_from_a_cache_give_the_logits_of_whole_rows(stacks):
  """Three responses to each of two prompts, one padded; the ring of four slots begins at its end.

  The response that started two steps late, as one that takes another's place does, never sees what
  the other has left in the ring.
  """
  decoder = switched_decoder()
  prompts = np.array([[3, 14, 15, 9], [1, 2, 7, 7]])
  lengths = jnp.array([4, 2])
  responses = np.array(
    [[[2, 6, 5, 8], [9, 8, 7, 1], [4, 4, 0, 0]], [[5, 6, 7, 8], [1, 3, 0, 0], [2, 2, 2, 2]]]
  )
  late = np.array([[0, 0, 2], [0, 2, 0]])
  present = jnp.arange(4) < lengths[:, None]
  _, kept = decoder(
    jnp.array(prompts), present.astype(int), jnp.arange(4)[None] * jnp.ones((2, 1), int), keep=True
  )
  cache = new_cache(*kept, width=3, slots=4, dtype="float32", stacks=stacks)
  cache = cache._replace(responses=jax.tree.map(lambda ring: ring + 7, cache.responses))
  layers = split_stack(nnx.to_pure_dict(nnx.state(decoder.layers)), stacks)
  step = jax.jit(lambda tokens, place, cache: decoder.step(tokens, place, cache, layers))
  steps = []
  for at in range(4):
    ages = np.maximum(at + 1 - late, 0)
    tokens = np.take_along_axis(responses, np.maximum(ages - 1, 0)[..., None], -1)[..., 0]
    place = Place(lengths, jnp.array(ages), jnp.array((at + 3) % 4))
    hidden, cache = step(jnp.array(tokens), place, cache)
    steps.append(np.asarray(decoder.logits(hidden)))
  pairs = list(itertools.product(range(2), range(3)))
  rows = np.array([[*prompts[b, : lengths[b]], *responses[b, w]] + [0] * b * 2 for b, w in pairs])
  for (query, sample), whole in zip(pairs, forward(decoder, rows), strict=True):
    first, begin = late[query, sample], int(lengths[query])
    stepped = [steps[at][query, sample] for at in range(first, 4)]
    np.testing.assert_allclose(stepped, whole[begin : begin + 4 - first], atol=1e-5)


@functools.cache
def rematerialised_gradient(remat: str):
  definition = define_policy(dataclasses.replace(CONFIG, remat=remat), tiny.mesh())
  tokens = jnp.array([[3, 14, 15, 9]])

  def loss(parameters):
    hidden, _ = definition.bind(parameters)(tokens, jnp.ones_like(tokens), jnp.arange(4)[None])
    return jnp.sum(jnp.square(hidden))

  # Parameters are the same whatever is computed again.
  return jax.jit(jax.grad(loss))(define_policy(CONFIG, tiny.mesh()).init(0))


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation_changes_no_gradient(remat):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    rematerialised_gradient(remat),
    rematerialised_gradient("none"),
  )


def test_bfloat16_compute_keeps_float32_masters_and_logits(decoder):
  config = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
  half = Decoder(config, nnx.Rngs(params=0))
  assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(half))} == {np.dtype("float32")}
  tokens = jnp.array([[3, 14, 15, 9]])
  hidden, _ = half(tokens, jnp.ones_like(tokens), jnp.arange(4)[None])
  assert hidden.dtype == jnp.bfloat16
  logits = half.logits(hidden)
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, forward(decoder, tokens), atol=0.1)


def test_attention_mask_by_hand():
  segments = jnp.array([[SHARED_SEGMENT, RESPONSE_SEGMENT, 3, PADDING_SEGMENT]])
  expected = [
    [True, False, False, False],
    [True, True, False, False],
    [True, False, True, False],
    [True, False, False, False],  # padding may read, its output is never used
  ]
  np.testing.assert_array_equal(attention_mask(segments)[0], expected)


@pytest.mark.parametrize("part", ["whole rows", "steps"])
def test_compile_time_does_not_grow_with_depth(part):
  def operations(layers: int) -> int:
    config = dataclasses.replace(CONFIG, kinds=CONFIG.kinds[:1] * layers)
    definition = define_policy(config, tiny.mesh())
    tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)

    def run(parameters, tokens):
      policy = definition.bind(parameters)
      if part == "whole rows":
        return policy(tokens, tokens, tokens)[0]
      kept = jnp.zeros((layers, 1, 8, config.kv_heads, config.head_dim))
      cache = new_cache(kept, kept, width=4, slots=8, dtype="float32")
      return policy.step(tokens, Place(tokens[:, 0], tokens, tokens[0, 0]), cache)

    return len(jax.jit(run).lower(definition.abstract, tokens).as_text().splitlines())

  assert operations(2) == operations(16)
