"""What must hold on a GPU: the fused kernel, number types, both updates, and the sampler.

Those without the mark hold on every platform and run on a CPU, too.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.config.schema import SamplerConfig
from apo_jax.inference.sampler import Sampler
from apo_jax.inference.scoring import make_logprob_scorer
from apo_jax.models import attention_kernels
from apo_jax.models.attention import attention_mask
from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.objectives import APO, DPO
from apo_jax.policy_step import make_policy_update
from apo_jax.reward_step import make_reward_update
from apo_jax.rows.rows import PADDING_SEGMENT
from apo_jax.training.optimization import init_state, make_optimizer
from tests import batches, tiny
from tests.models.plain_attention import attend

# Heads as models have them: cudnn's kernels differ with the features of a head.
HEADS = {"heads": 4, "kv_heads": 2, "head_dim": 64, "query_scale": 64**-0.5}
SEPARATE = [[(1, 140), (2, 100)], [(1, 10), (2, 290)], [(1, 1), (2, 1)], []]
SHARED = [[(1, 140), (2, 30), (3, 1), (4, 100)], [(1, 10), (2, 150), (4, 140)], [(1, 300)], []]
TRAINING = dataclasses.replace(
  tiny.config().policy.training, learning_rate=1e-3, warmup_steps=0, schedule="constant"
)
LOSSES = {"policy": DPO(), "reward": APO()}


def architecture(**changes):
  return tiny.architecture(**{"compute_dtype": "bfloat16", **HEADS, **changes})


def segments(rows, length: int) -> jax.Array:
  ids = np.full((len(rows), length), PADDING_SEGMENT, np.int32)
  for row, parts in enumerate(rows):
    there = np.concatenate([np.full(count, number) for number, count in parts] or [[]])[:length]
    ids[row, : len(there)] = there
  return jnp.asarray(ids)


@pytest.mark.gpu
@pytest.mark.parametrize(
  ("rows", "length", "head_dim"),
  [(SEPARATE, 300, 64), (SHARED, 300, 64), (SEPARATE, 299, 64), (SHARED, 299, 128)],
)
def test_cudnn_attends_as_float32_products_do(rows, length, head_dim):
  """Forwards and backwards, within what bfloat16 allows."""
  made = architecture(attention="cudnn", head_dim=head_dim, query_scale=head_dim**-0.5)
  ids = segments(rows, length)
  mask, present = attention_mask(ids), ids != PADDING_SEGMENT
  shapes = [(len(rows), length, heads, head_dim) for heads in (4, 2, 2, 4)]
  keys = jax.random.split(jax.random.key(0), 4)
  inputs = [jax.random.normal(k, s, jnp.bfloat16) for k, s in zip(keys, shapes, strict=True)]
  kernel = attention_kernels.make_kernel(made, mask, separate=rows is SEPARATE)

  def with_gradients(function, inputs):
    def read(*qkv):
      return jnp.where(present[..., None, None], function(*qkv), 0.0).astype(qkv[0].dtype)

    attended, pull_back = jax.vjp(read, *inputs[:3])
    return attended, *pull_back(inputs[3])

  ours = jax.jit(lambda *inputs: with_gradients(kernel, inputs))(*inputs)
  exact = dataclasses.replace(made, compute_dtype="float32")
  wide = [one.astype(jnp.float32) for one in inputs]
  with jax.default_matmul_precision("highest"):
    theirs = jax.jit(
      lambda *inputs: with_gradients(lambda *qkv: attend(*qkv, mask, exact), inputs)
    )(*wide)
  for one, other in zip(ours, theirs, strict=True):
    assert np.isfinite(np.asarray(one, np.float32)).all()
    np.testing.assert_allclose(np.asarray(one, np.float32), other, atol=0.05, rtol=0.05)


@pytest.mark.gpu
def test_auto_is_cudnn_here_and_compiles_to_its_kernel():
  assert _kernel_of_auto() == "cudnn"
  update, state, batch = step("policy", attention="auto")
  with jax.set_mesh(tiny.mesh()):
    text = update.lower(state, batch, {}, tiny.NO_KEY).compile().as_text()
  assert "cudnn$fmha" in text or "__cudnn" in text


def step(player: str, **changes):
  """An update, its first state and a batch."""
  made = architecture(**changes)
  optimizer = make_optimizer(TRAINING, 10)
  if player == "policy":
    definition = define_policy(made, tiny.mesh())
    update = make_policy_update(definition, optimizer, LOSSES[player], tiny.mesh())
    batch = batches.policy_batch()
  else:
    definition = define_reward_model(made, "eos", tiny.mesh())
    loss = LOSSES[player]
    update = make_reward_update(definition, optimizer, loss, tiny.mesh(), num_samples=3)
    batch = batches.reward_batch()
  return update, init_state(definition, optimizer, definition.init(0)), batch


def _kernel_of_auto() -> str:
  return define_policy(architecture(attention="auto"), tiny.mesh()).architecture.attention


@functools.cache  # two tests read bfloat16's with the kernel of "auto"
def losses_of(player: str, attention: str, compute_dtype: str = "bfloat16") -> list[float]:
  """Of four updates on one batch."""
  found = []
  with jax.set_mesh(tiny.mesh()):
    update, state, batch = step(player, attention=attention, compute_dtype=compute_dtype)
    for _ in range(4):
      state, metrics = update(state, batch, {}, tiny.NO_KEY)
      found.append(float(metrics["loss"]))
  return found


@pytest.mark.slow  # on a CPU, where other tests of the steps are quicker
@pytest.mark.parametrize("player", ["policy", "reward"])
def test_steps_in_bfloat16_follow_those_in_float32(player):
  """The loss falls on one batch, by much the same way in both types, with the kernel of "auto"."""
  narrow = losses_of(player, _kernel_of_auto())
  wide = losses_of(player, "xla", "float32")
  assert narrow[-1] < narrow[0] and wide[-1] < wide[0]
  np.testing.assert_allclose(narrow, wide, rtol=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("player", ["policy", "reward"])
def test_steps_by_cudnn_and_by_xla_agree(player):
  np.testing.assert_allclose(losses_of(player, "cudnn"), losses_of(player, "xla"), rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-3), ("bfloat16", 0.1)])
def test_what_the_sampler_says_a_response_is_worth_the_scorer_says(dtype, tolerance):
  """Decoding with a cache and reading whole rows are two programs for one number."""
  codec, mesh = tiny.codec(), tiny.mesh()
  made = architecture(attention="auto", compute_dtype=dtype)
  definition = define_policy(made, mesh)
  parameters = definition.init(0)
  sampler = Sampler(definition, codec, mesh, buckets=(16,), batch_size=4, cache_dtype=dtype)
  queries = [list(range(5, 5 + length)) for length in (3, 9, 16, 12)]
  seeds = np.arange(8, dtype=np.uint32).reshape(4, 2)
  settings = SamplerConfig(num_samples=2, max_new_tokens=12)
  with jax.default_matmul_precision("highest"):  # a GPU's default for float32 is TF32
    drawn = sampler(parameters, queries, seeds, settings)
  sequences = [
    (query, one.response)
    for query, responses in zip(queries, drawn, strict=True)
    for one in responses
  ]
  scorer = make_logprob_scorer(
    definition, mesh, batch_size=8, query_length=16, lengths=(32,), eos=codec.eos
  )
  said = [one.logprob for responses in drawn for one in responses]
  assert {tuple(one.response.tokens) for one in drawn[0]} != {()}
  with jax.default_matmul_precision("highest"):
    scored = np.asarray(scorer(parameters, sequences)).reshape(-1)
  np.testing.assert_allclose(said, scored, atol=tolerance, rtol=0.01)
