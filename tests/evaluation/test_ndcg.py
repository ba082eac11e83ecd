import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from apo_jax.evaluation.ndcg import ndcg

GOLDEN = Path(__file__).parents[1] / "golden" / "ndcg.json"


def test_it_is_scikit_learns_of_the_same_gains():
  golden = json.loads(GOLDEN.read_text())
  values, rewards = np.array(golden["values"]), np.array(golden["rewards"])
  for row, count in enumerate(golden["counts"]):
    values[row, count:] = np.nan
  found = ndcg(values, rewards)["ndcg"]
  assert found.value == pytest.approx(np.mean(golden["ndcg"]), rel=1e-6)
  np.testing.assert_allclose(found.pseudo_values, golden["ndcg"], rtol=1e-5)


def test_chance_is_the_mean_over_all_orders():
  rewards = np.array([[0.3, -2.0, 1.5, 0.0]])
  orders = [np.array([order], float) for order in itertools.permutations(range(4))]
  found = [ndcg(order, rewards) for order in orders]
  chance = np.mean([one["ndcg"].value for one in found])
  assert found[0]["ndcg_of_chance"].value == pytest.approx(chance, rel=1e-6)
  # What is not there has no rank that chance could give.
  padded = ndcg(np.array([[4.0, 3.0, 2.0, 1.0, np.nan]]), np.append(rewards, [[9.0]], axis=1))
  assert padded["ndcg_of_chance"].value == pytest.approx(chance, rel=1e-6)
  # To have no order at all is chance.
  assert ndcg(np.zeros((1, 4)), rewards)["ndcg"].value == pytest.approx(chance, rel=1e-6)


def test_the_order_of_rewards_is_1_and_only_the_order_of_values_counts():
  random = np.random.default_rng(1)
  values, rewards = random.normal(size=(2, 5, 4))
  assert ndcg(rewards, rewards)["ndcg"].value == pytest.approx(1.0)
  moved = ndcg(np.exp(values) + 3, 7 * rewards - 100)["ndcg"].value
  assert moved == pytest.approx(ndcg(values, rewards)["ndcg"].value, rel=1e-5)


def test_what_has_no_order_is_left_out():
  values = np.array([[1.0, 2.0, np.nan], [3.0, 1.0, 2.0]])
  rewards = np.array([[1.0, 2.0, 9.0], [5.0, 5.0, 5.0]])
  assert ndcg(values, rewards)["ndcg"].value == pytest.approx(1.0)
  assert all(math.isnan(one.value) for one in ndcg(values[1:], rewards[1:]).values())
