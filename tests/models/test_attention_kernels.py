"""Fused attention: when it is chosen, that it equals XLA's, and that TPUs' compilers take it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.devices.checks import check_attention
from apo_jax.devices.sharding import named
from apo_jax.models import attention_kernels
from apo_jax.models.architecture import LayerKind, Rope, on_platform
from apo_jax.models.attention import attention_mask
from apo_jax.models.attention_kernels import choose
from apo_jax.models.definition import define_policy
from apo_jax.rows.rows import PADDING_SEGMENT
from tests import tiny, tpu
from tests.models.plain_attention import attend

WINDOWED = (LayerKind(Rope(1e4)), LayerKind(Rope(1e4), window=512))


@pytest.mark.parametrize(
  ("platform", "expected"), [("tpu", "splash"), ("gpu", "cudnn"), ("cpu", "xla")]
)
def test_auto_is_by_platform_and_else_as_asked(platform, expected):
  assert on_platform(tiny.architecture(attention="auto"), platform).attention == expected
  assert on_platform(tiny.architecture(attention="splash"), platform).attention == "splash"


def test_a_model_is_defined_for_the_devices_of_its_mesh():
  asked = tiny.architecture(attention="auto")
  assert define_policy(asked, tiny.mesh()).architecture.attention == "xla"
  assert define_policy(asked, tpu.mesh(2, 2)).architecture.attention == "splash"


@pytest.mark.parametrize(
  ("changes", "length", "expected"),
  [
    ({}, 128, "splash"),
    ({}, 127, "xla"),
    ({}, 769, "splash"),
    ({"attention_softcap": 50.0, "compute_dtype": "float32"}, 512, "splash"),
    ({"kinds": WINDOWED}, 513, "xla"),
    ({"kinds": WINDOWED}, 512, "splash"),
    ({"attention": "cudnn"}, 31, "cudnn"),
    ({"attention": "cudnn", "compute_dtype": "float32"}, 32, "xla"),
    ({"attention": "cudnn", "attention_softcap": 50.0}, 32, "xla"),
    ({"attention": "cudnn", "head_dim": 136}, 32, "xla"),
    ({"attention": "cudnn", "head_dim": 20}, 32, "xla"),
    ({"attention": "cudnn", "kinds": WINDOWED}, 513, "xla"),
    ({"attention": "xla"}, 512, "xla"),
    ({"attention": "auto"}, 512, "xla"),
  ],
)
def test_xla_serves_where_a_kernel_cannot(changes, length, expected):
  made = tiny.architecture(**{"attention": "splash", "compute_dtype": "bfloat16", **changes})
  assert choose(made, length) == expected


@pytest.mark.parametrize(
  ("asked", "platform", "fragments"),
  [
    ("splash", "cpu", ["attention is 'splash'", "runs on a TPU", "CPUs", "'auto' or 'xla'."]),
    ("splash", "gpu", ["runs on a TPU", "GPUs", "'auto', 'xla' or 'cudnn'."]),
    ("cudnn", "tpu", ["runs on a GPU", "TPUs", "'auto', 'xla' or 'splash'."]),
  ],
)
def test_a_kernel_of_other_devices_is_refused(asked, platform, fragments):
  with pytest.raises(ConfigError) as error:
    check_attention(tiny.config(model__attention=asked), platform)
  for fragment in fragments:
    assert fragment in str(error.value)


@pytest.mark.parametrize(("asked", "platform"), [("splash", "tpu"), ("cudnn", "gpu")])
def test_a_kernel_of_these_devices_and_what_all_have_pass(asked, platform):
  for attention in ("auto", "xla", asked):
    check_attention(tiny.config(model__attention=attention), platform)


# Rows of 300 slots, three of splash's blocks: a query, then one response or three, then padding.
LENGTH = 300
SEPARATE = [[(1, 140), (2, 100)], [(1, 10), (2, 290)], [(1, 1), (2, 1)], []]
SHARED = [[(1, 140), (2, 30), (3, 1), (4, 100)], [(1, 10), (2, 150), (4, 140)], [(1, 300)], []]


def segments(rows) -> jnp.ndarray:
  ids = np.full((len(rows), LENGTH), PADDING_SEGMENT, np.int32)
  for row, parts in enumerate(rows):
    there = np.concatenate([np.full(count, number) for number, count in parts] or [[]])
    ids[row, : len(there)] = there
  return jnp.asarray(ids)


def random_inputs(architecture, batch: int, length: int = LENGTH):
  """Queries, keys, values and a cotangent."""
  shapes = [(batch, length, heads, architecture.head_dim) for heads in (4, 2, 2, 4)]
  keys = jax.random.split(jax.random.key(0), 4)
  return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def with_gradients(function, present, *inputs):
  """What is attended where a token is, and the gradients of it."""

  def read(*inputs):
    return jnp.where(present[..., None, None], function(*inputs), 0.0)

  @jax.jit
  def both(queries, keys, values, cotangent):
    attended, pull_back = jax.vjp(read, queries, keys, values)
    return attended, *pull_back(cotangent)

  return both(*inputs)


@pytest.mark.parametrize("cap", [0.0, pytest.param(3.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rows", [SEPARATE, SHARED], ids=["separate", "shared"])
def test_splash_attends_as_xla_does(rows, cap):
  architecture = tiny.architecture(attention_softcap=cap, query_scale=0.5)
  ids = segments(rows)
  mask, present = attention_mask(ids), ids != PADDING_SEGMENT
  inputs = random_inputs(architecture, len(rows))
  kernel = attention_kernels.splash(architecture, LENGTH, interpret=True)
  given = mask if rows is SHARED else None
  ours = with_gradients(lambda *qkv: kernel(*qkv, given), present, *inputs)
  theirs = with_gradients(lambda *qkv: attend(*qkv, mask, architecture), present, *inputs)
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_what_splash_makes_of_padding_is_finite():
  architecture = tiny.architecture()
  queries, keys, values, _ = random_inputs(architecture, len(SHARED))
  kernel = attention_kernels.splash(architecture, LENGTH, interpret=True)
  for mask in (None, attention_mask(segments(SHARED))):
    assert np.isfinite(jax.jit(kernel)(queries, keys, values, mask)).all()


@pytest.mark.parametrize(
  "rows",
  [pytest.param(SEPARATE, marks=pytest.mark.slow), SHARED],
  ids=["separate", "shared"],
)
@pytest.mark.slow
def test_a_decoder_reads_the_same_by_splash(rows, monkeypatch):
  """Hidden states and the gradient of every parameter, through both layers."""
  interpreted = functools.partial(attention_kernels.splash, interpret=True)
  monkeypatch.setattr(attention_kernels, "splash", interpreted)
  ids = segments(rows)
  present = ids != PADDING_SEGMENT
  tokens = jax.random.randint(jax.random.key(1), ids.shape, 3, 300)
  positions = jnp.broadcast_to(jnp.arange(LENGTH), ids.shape)

  def read(attention: str):
    definition = define_policy(tiny.architecture(attention=attention), tiny.mesh())

    def loss(parameters):
      policy = definition.bind(parameters)
      hidden, _ = policy(tokens, ids, positions, separate=rows is SEPARATE)
      hidden = jnp.where(present[..., None], hidden, 0.0)
      return jnp.sum(jnp.square(hidden[..., 0])), hidden

    return jax.jit(jax.grad(loss, has_aux=True))(definition.init(0))

  def check(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-3)

  jax.tree.map(check, read("splash"), read("xla"))


@pytest.mark.parametrize("length", [LENGTH, LENGTH - 1])
@pytest.mark.parametrize("rows", [SEPARATE, SHARED], ids=["separate", "shared"])
def test_cudnn_is_asked_for_the_same(rows, length, monkeypatch):
  """What it is asked for, computed by XLA; the kernel itself needs a GPU, and an even length."""
  attention, asked = jax.nn.dot_product_attention, []

  def by_xla(queries, *others, implementation, **options):
    asked.append((implementation, options["is_causal"], options["mask"] is None))
    assert queries.shape[1] == LENGTH
    return attention(queries, *others, implementation="xla", **options)

  architecture = tiny.architecture(
    attention="cudnn", compute_dtype="bfloat16", query_scale=0.5, head_dim=8
  )
  ids = segments(rows)[:, :length]
  mask, present = attention_mask(ids), ids != PADDING_SEGMENT
  queries, keys, values, _ = random_inputs(architecture, len(rows), length)
  theirs = attend(queries, keys, values, mask, architecture)
  monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
  kernel = attention_kernels.make_kernel(architecture, mask, separate=rows is SEPARATE)
  ours = kernel(queries, keys, values)
  assert asked == [("cudnn", rows is SEPARATE, rows is SEPARATE)]
  np.testing.assert_allclose(ours[present], theirs[present], atol=1e-5)


@pytest.mark.parametrize("axes", [(1, 1, 1), (2, 1, 2)], ids=["one device", "a mesh"])
@pytest.mark.parametrize("separate", [True, False], ids=["separate", "shared"])
def test_a_tpu_compiles_splash_forwards_and_backwards(axes, separate):
  """The gradient of a whole decoder, whose rows and heads are split over the mesh."""
  mesh = tpu.mesh(*axes)
  definition = define_policy(
    tiny.architecture(attention="auto", compute_dtype="bfloat16", remat="full"), mesh
  )

  def loss(parameters, tokens, ids, positions):
    hidden, _ = definition.bind(parameters)(tokens, ids, positions, separate=separate)
    return jnp.sum(hidden[..., 0].astype(jnp.float32))

  integers = jax.ShapeDtypeStruct((4, 260), jnp.int32, sharding=named(mesh, "batch"))
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    step = jax.jit(jax.grad(loss), out_shardings=definition.shardings)
    compiled = step.lower(definition.abstract, *[integers] * 3).compile()
  # Forwards, again in the backward pass, and for the gradients of queries and of keys and values.
  assert compiled.as_text().count('custom_call_target="tpu_custom_call"') == 4


def test_splash_keeps_the_logits_out_of_a_tpus_memory():
  mesh = tpu.mesh()
  batch, length = 4, 2048
  architecture = tiny.architecture(head_dim=64, compute_dtype="bfloat16")
  kernel = attention_kernels.splash(architecture, length)

  def temporaries(function) -> int:
    def loss(*inputs):
      return jnp.sum(function(*inputs).astype(jnp.float32) ** 2)

    inputs = [
      jax.ShapeDtypeStruct((batch, length, heads, 64), jnp.bfloat16, sharding=named(mesh))
      for heads in (architecture.heads, architecture.kv_heads, architecture.kv_heads)
    ]
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*inputs).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  causal = jnp.broadcast_to(np.tril(np.ones((length, length), bool)), (batch, length, length))
  logits = 2 * batch * architecture.heads * length**2
  assert temporaries(lambda *qkv: attend(*qkv, causal, architecture)) > logits
  assert temporaries(lambda *qkv: kernel(*qkv, None)) < logits / 4
