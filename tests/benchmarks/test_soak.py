import numpy as np
import pytest

from apo_jax.config.checks import from_config_dict
from benchmarks import soak, soak_config


def rounds_with(**values):
  """Rounds whose numbers are flat but for those given."""
  flat = dict.fromkeys(soak.LIMITS, np.full(120, 10.0))
  columns = {**flat, **values}
  return [{name: column[i] for name, column in columns.items()} for i in range(120)]


def test_a_line_through_noise_has_its_slope_and_error():
  noise = np.random.default_rng(0).normal(size=1000)
  slope = soak.fit(5.0 + 0.01 * np.arange(1000) + noise)
  assert slope.growth == pytest.approx(10.0, abs=3 * slope.error)
  assert slope.error == pytest.approx(np.sqrt(12 / 1000), rel=0.8)
  assert slope.mean == pytest.approx(10.0, abs=0.2)
  with pytest.raises(ValueError, match="9 rounds"):
    soak.fit(noise[:9])


def test_what_grows_is_named():
  assert soak.verdict(rounds_with(), 20)[1] == []
  growing = np.arange(120.0)
  # Two in a hundred rounds are too many descriptors, as is a compilation in every round.
  found = soak.verdict(rounds_with(descriptors=0.02 * growing, traces=growing > 70), 20)[1]
  assert found == ["descriptors", "traces"]
  # What happens in the warm-up does not count.
  assert soak.verdict(rounds_with(compilations=np.where(growing < 20, 50.0, 0.0)), 20)[1] == []


def test_the_game_is_one_that_may_be_played():
  assert from_config_dict(soak_config.get_config()).data.num_queries == 8
