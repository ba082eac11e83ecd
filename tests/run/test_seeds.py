import itertools

import jax
import numpy as np
import pytest

from apo_jax.run.seeds import derive_key, derive_seed

PURPOSES = [
  (),
  ("shuffle",),
  ("shuffle", 1),
  ("shuffle", 1, "reward"),
  ("shuffle", 2, "reward"),
  ("init", "policy"),
  (1, "golden", "q1"),
  (11, "golden", "q1"),
]


def test_a_seed_never_changes():
  # SHA-256 of "7/shuffle/1/reward" begins bee0f411: 0x11f4e0be // 2.
  assert derive_seed(7, "shuffle", 1, "reward") == 150630495


def test_every_purpose_and_every_seed_has_its_own():
  pairs = list(itertools.product(range(20), PURPOSES))
  seeds = {derive_seed(seed, *purpose) for seed, purpose in pairs}
  keys = {tuple(derive_key(seed, *purpose)) for seed, purpose in pairs}
  assert len(seeds) == len(keys) == len(pairs)


def test_the_same_purpose_has_the_same_seed_and_key():
  for purpose in PURPOSES:
    assert derive_seed(3, *purpose) == derive_seed(3, *purpose)
    np.testing.assert_array_equal(derive_key(3, *purpose), derive_key(3, *purpose))


def test_seeds_have_31_bits():
  seeds = np.array([derive_seed(seed, "bits") for seed in range(2_000)])
  assert seeds.min() >= 0 and seeds.max() < 2**31
  # Every bit is set in about half of the seeds.
  shares = np.mean((seeds[:, None] >> np.arange(31)) & 1, axis=0)
  assert np.all(np.abs(shares - 0.5) < 5 * 0.5 / np.sqrt(len(seeds)))


@pytest.mark.parametrize("query_id", ["q1", "é漢😀", "a/b", "\ud800", ""])
def test_a_key_is_one_of_threefry(query_id):
  data = derive_key(0, 1, "golden", query_id)
  assert data.dtype == np.uint32 and data.shape == (2,)
  key = jax.random.wrap_key_data(data, impl="threefry2x32")
  np.testing.assert_array_equal(jax.random.key_data(key), data)
