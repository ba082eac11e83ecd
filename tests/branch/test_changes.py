"""Which fields a branched run may change: every field is decided upon."""

import dataclasses

import pytest

from apo_jax.branch.changes import COMPARED_BY, MADE_OF, MAY_CHANGE, PLAYED, changed_fields
from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.objectives.choice import Choice
from tests import tiny

OLD = tiny.config()


def leaves(value, path="") -> list[str]:
  """The dotted paths of all fields; what is chosen is one field."""
  found = []
  for field in dataclasses.fields(value):
    inner = getattr(value, field.name)
    if dataclasses.is_dataclass(inner) and not isinstance(inner, Choice):
      found += leaves(inner, f"{path}{field.name}.")
    else:
      found.append(f"{path}{field.name}")
  return found


def is_within(path: str, sections: tuple[str, ...]) -> bool:
  return any(f"{path}.".startswith(f"{section}.") for section in sections)


@pytest.mark.parametrize("path", leaves(Config()))
def test_a_new_field_is_decided_upon(path):
  assert is_within(path, MAY_CHANGE) or is_within(path, (*COMPARED_BY, *PLAYED, *MADE_OF))


def test_every_name_is_a_field_or_section():
  for name in (*MAY_CHANGE, *COMPARED_BY, *PLAYED, *MADE_OF):
    value = Config()
    for part in name.split("."):
      assert hasattr(value, part), name
      value = getattr(value, part)


def test_what_may_change_is_returned_with_both_values():
  assert changed_fields(OLD, OLD) == {}
  new = tiny.config(rounds=5, policy__training__learning_rate=1e-7, policy__dpo__beta=0.3)
  assert changed_fields(OLD, new) == {
    "config.rounds": (2, 5),
    "config.policy.training.learning_rate": (OLD.policy.training.learning_rate, 1e-7),
    "config.policy.dpo.beta": (0.1, 0.3),
  }


def test_another_choice_comes_with_its_fields():
  found = changed_fields(OLD, tiny.config(policy__loss="rrhf"))
  assert found["config.policy.loss"] == ("dpo", "rrhf")
  assert found["config.policy.dpo"] == ({"beta": 0.1, "pairs": "best_worst"}, None)
  assert found["config.policy.rrhf"][0] is None


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"seed": 1}, "config.seed is 1, .* has 0, and what the finished rounds left was made with"),
    ({"data__num_test": 8}, "config.data.num_test is 8"),
    ({"reward__pooling": "max"}, "config.reward.pooling is 'max'"),
    ({"supervised__epochs": 2}, "supervised.epochs is 2, .*finished before the first round"),
    ({"sampling__evaluation__temperature": 0.5}, "temperature is 0.5, .*rounds are compared by"),
    ({"model__compute_dtype": "bfloat16"}, "compute_dtype is 'bfloat16', .*are compared by"),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_finished_rounds_depend_on_is_refused(change, said):
  with pytest.raises(ConfigError, match=rf"{said}.*may have otherwise: rounds, .*logging\."):
    changed_fields(OLD, tiny.config(**change))
