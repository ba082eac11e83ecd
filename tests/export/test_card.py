"""What an exported model's card says of a run that was branched."""

import dataclasses

from apo_jax.export.card import Origin, model_card
from apo_jax.run.branched import Branch
from tests import tiny

CHANGED = {"config.policy.loss": ("rjs", "dpo")}
ORIGIN = Origin("new", tiny.config(), 2, "policy", "", False)


def test_a_branched_policy_names_where_its_rounds_were_played():
  def card(round: int, branch: Branch | None) -> str:
    return model_card(dataclasses.replace(ORIGIN, round=round, branch=branch), tiny.codec(), 0)

  branch = Branch("/runs/old", 1, CHANGED, "0" * 64, None)
  sentence = "Branched from /runs/old after round 1, with config.policy.loss: 'rjs' to 'dpo'."
  assert "Branched" not in card(2, None)
  assert f"as round 2 left it, its policy step DPO. {sentence}" in card(2, branch)
  # The loss of the config is not the one that this round had.
  taken_over = card(1, branch)
  assert "as round 1 left it, in the run that this one was branched from." in taken_over
  assert sentence in taken_over and "policy step DPO" not in taken_over
