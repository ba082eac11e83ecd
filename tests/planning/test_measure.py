"""What a plan makes of a program that the compiler gives up on."""

import types

import jax
import numpy as np
import pytest

from apo_jax.planning.measure import measure
from apo_jax.planning.programs import Program


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
