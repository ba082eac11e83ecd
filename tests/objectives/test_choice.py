"""Choices: a kind collects what subclasses name, and configs read them."""

import dataclasses
from typing import ClassVar

import pytest

from apo_jax import objectives
from apo_jax.objectives.choice import Choice


def test_a_kind_knows_its_choices():
  known = objectives.PolicyLoss.known
  assert known["dpo"] is objectives.DPO and known["rjs"] is objectives.RejectionSampling
  assert {name: loss.name for name, loss in known.items()} == {name: name for name in known}


def test_kinds_do_not_share_their_choices():
  class Fruit(Choice):
    pass

  class Tool(Choice):
    pass

  @dataclasses.dataclass(frozen=True)
  class Apple(Fruit):
    name: ClassVar[str] = "apple"

  class Unnamed(Fruit):
    pass

  assert Fruit.known == {"apple": Apple} and Tool.known == {}


@pytest.mark.parametrize("loss", objectives.PolicyLoss.known.values())
def test_a_loss_is_made_by_its_defaults_alone(loss):
  """A config has a section of every loss, with the paper's values."""
  assert loss() == loss() and dataclasses.fields(loss) is not None
  assert hash(loss()) == hash(loss())
