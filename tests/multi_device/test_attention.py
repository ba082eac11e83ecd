"""Fused attention where rows and heads are split over a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.models import attention_kernels
from apo_jax.models.definition import define_policy
from tests import tiny


@pytest.mark.slow
@pytest.mark.parametrize("separate", [True, False], ids=["separate", "shared"])
def test_each_device_attends_over_its_rows_and_heads(separate, monkeypatch):
  interpreted = functools.partial(attention_kernels.splash, interpret=True)
  monkeypatch.setattr(attention_kernels, "splash", interpreted)
  tokens = jax.random.randint(jax.random.key(0), (4, 130), 3, 300)
  ids = jnp.ones_like(tokens).at[:, 100:].set(2)
  if not separate:
    ids = ids.at[:, 120:].set(3)
  positions = jnp.broadcast_to(jnp.arange(130), tokens.shape)

  def gradient(attention: str, mesh):
    definition = define_policy(tiny.architecture(attention=attention), mesh)

    def loss(parameters):
      hidden, _ = definition.bind(parameters)(tokens, ids, positions, separate=separate)
      return jnp.sum(jnp.square(hidden[..., 0]))

    with jax.set_mesh(mesh):
      return jax.tree.map(np.asarray, jax.jit(jax.grad(loss))(definition.init(0)))

  def check(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-3)

  jax.tree.map(check, gradient("splash", tiny.mesh(2, 2, 2)), gradient("xla", tiny.mesh()))
