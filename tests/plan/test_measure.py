"""What a plan makes of a program that the compiler gives up on, and the least time of one."""

import types

import jax
import numpy as np
import pytest

from apo_jax.plan.chips import Chip
from apo_jax.plan.devices import torus_coordinates
from apo_jax.plan.hlo_costs import Costs
from apo_jax.plan.measure import measure, roofline
from apo_jax.plan.programs import Program
from tests import tiny, tpu


def failing(message):
  """A program whose compilation fails with this message."""

  def compile_program():
    raise jax.errors.JaxRuntimeError(message)

  lowered = types.SimpleNamespace(compile=compile_program)
  return Program("sample", 1, lambda: lowered, 1.0, 1, 0.0, "config.sampling.batch_size")


@pytest.mark.parametrize(
  "message",
  [
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 16.50G of 15.75G hbm.",
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries"
    " (16.50G) exceeds available HBM (15.75G).",
  ],
)
def test_memory_that_is_lacking_is_the_peak(message):
  found = measure(failing(message), np.zeros((1, 3), int))
  assert found.peak == 16.5 * 2**30
  assert found.costs is None and found.temporaries is None


def test_another_failure_is_not_one_of_memory():
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
    measure(failing("INTERNAL: no lowering of this."), np.zeros((1, 3), int))


def test_the_axis_that_has_most_to_send_bounds_the_links():
  """Of six bytes a second on three axes, two on each."""
  chip = Chip("chip", 1.0, 10.0, 5.0, 6.0, 3, None)
  found = roofline(Costs(flops=10.0, bytes=10.0, along=(1.0, 6.0, 1.0)), chip)
  assert (found.compute, found.memory, found.links) == (1.0, 2.0, 3.0)
  assert found.seconds == 3.0 and found.bound == "links"


def test_coordinates_are_in_the_order_of_the_mesh():
  np.testing.assert_array_equal(torus_coordinates(tiny.mesh()), [[0, 0, 0]])
  mesh = tpu.mesh(fsdp=2, tensor=2)
  expected = [device.coords for device in mesh.devices.flat]
  np.testing.assert_array_equal(torus_coordinates(mesh), expected)
