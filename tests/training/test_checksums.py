import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.training.checksums import checksums


def flipped(array, place, bit):
  changed = np.array(array)
  view = changed.reshape(-1).view(f"u{changed.dtype.itemsize}")
  view[place] ^= view.dtype.type(1 << bit)
  return jnp.asarray(changed)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.int8])
def test_every_flipped_bit_changes_it(dtype):
  array = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)) * 50, dtype)
  places = [(place, bit) for place in range(6) for bit in range(8 * array.dtype.itemsize)]
  tree = {f"{place} {bit}": flipped(array, place, bit) for place, bit in places}
  found = checksums({"whole": array, **tree})
  assert len({*found.values()}) == 1 + len(places)


def test_it_knows_where_a_number_stands_and_zero_from_minus_zero():
  zeros = jnp.zeros((2, 3))
  trees = [
    zeros.at[0, 1].set(1.0),
    zeros.at[1, 0].set(1.0),
    zeros,
    -zeros,
    zeros.at[0, 0].set(jnp.nan),
  ]
  assert len({*checksums(trees).values()}) == len(trees)


def test_names_are_paths_and_equal_arrays_are_equal():
  array = jnp.arange(4.0)
  found = checksums({"a": {"b": array}, "c": jnp.arange(4.0)})
  assert list(found) == ["['a']['b']", "['c']"]
  assert len({*found.values()}) == 1 and checksums({}) == {}


def test_it_is_a_fixed_function_of_the_bits():
  """Checkpoints are read by later versions: by hand, in Python's integers."""

  def mix(bits):
    bits = (bits ^ bits >> 16) * 0x85EBCA6B % 2**32
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 % 2**32
    return bits ^ bits >> 16

  values = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)
  bits = [int(one) for one in values.view(np.uint32).reshape(-1)]
  sums = [
    sum(mix(one ^ mix((place + seed) % 2**32)) for place, one in enumerate(bits)) % 2**32
    for seed in (0x9E3779B9, 0x7F4A7C15)
  ]
  (found,) = checksums([jnp.asarray(values)]).values()
  assert found == "".join(f"{one:08x}" for one in sums)
