"""On 8 devices, policy losses of a batch that is split over them: the numbers of one device."""

import jax
import numpy as np

from apo_jax.devices.sharding import place_batch
from tests import tiny
from tests.objectives.helpers import POLICY_LOSSES, policy_outcomes, random_batch


def test_all_losses_on_a_batch_that_is_split():
  batch = jax.tree.map(np.asarray, random_batch(batch=8))

  def on(mesh):
    with jax.set_mesh(mesh):
      placed = place_batch(mesh, batch, 8)
      assert len(placed["values"].sharding.device_set) == mesh.size
      return jax.tree.map(np.asarray, policy_outcomes(placed))

  expected, found = on(tiny.mesh()), on(tiny.mesh(2, 2, 2))
  assert found.keys() == POLICY_LOSSES.keys()
  for name, outcome in found.items():
    jax.tree.map(
      lambda a, b, name=name: np.testing.assert_allclose(a, b, 1e-5, 1e-5, err_msg=name),
      outcome,
      expected[name],
    )
