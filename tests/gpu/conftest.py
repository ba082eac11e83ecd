"""Tests that show what is new on a GPU: `benchmarks/gpu/run.sh --stages=b` runs them there."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _skip_without_gpu(request: pytest.FixtureRequest) -> None:
  if request.node.get_closest_marker("gpu") and jax.default_backend() != "gpu":
    pytest.skip(f"it needs a GPU; JAX's backend here is {jax.default_backend()!r}")
