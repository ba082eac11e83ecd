"""What JAX reaches on this machine, and the memory that a process of it takes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import resident
from benchmarks.rate import COPIED_BYTES, rate


@functools.cache
def _product(dtype: str) -> tuple[float, Callable[[], Any]]:
  size = 3072 if jax.default_backend() == "cpu" else 8192
  # Random: a GPU's clock falls less where most bits do not change.
  matrix = jax.random.normal(jax.random.key(0), (size, size), dtype)
  product = jax.jit(jnp.matmul)
  return 2.0 * size**3, lambda: product(matrix, matrix)


@functools.cache
def _copy() -> tuple[float, Callable[[], Any]]:
  # A sum with a constant runs on all cores, where a plain copy may not; its memory is the array's.
  copy = jax.jit(lambda array: array + 1, donate_argnums=0)
  held = [jnp.ones((COPIED_BYTES // 4,), jnp.float32)]

  def call() -> jax.Array:
    held.append(copy(held.pop()))
    return held[0]

  return 2.0 * COPIED_BYTES, call


def limits(dtype: str) -> dict[str, float]:
  """FLOP/s of a large matrix product in `dtype`, and bytes/s of a large copy, read and written."""
  return {"flops": _rate(*_product(dtype)), "bandwidth": _rate(*_copy())}


def peak_bytes(device: jax.Device, held: int) -> int:
  """The most memory so far: the device's, or on a CPU the process's above the `held` bytes."""
  if device.platform == "cpu":
    return resident.peak_bytes() - held
  return device.memory_stats()["peak_bytes_in_use"]


def held_bytes(device: jax.Device, held: int) -> int:
  """The memory that is taken now, by the same rule."""
  if device.platform == "cpu":
    return resident.held_bytes() - held
  return device.memory_stats()["bytes_in_use"]


def _rate(amount: float, call: Callable[[], Any]) -> float:
  """Amounts a second of calls that do so much each."""

  def calls(count: int) -> None:
    jax.block_until_ready([call() for _ in range(count)][-1])

  return rate(amount, calls, accelerator=jax.default_backend() != "cpu")
