"""The parts of the experiment: what each folder of docs/results holds, and how it is played."""

from typing import NamedTuple

MODES = {
  "adversarial": "adversarial",
  "preferences_only": "preferences only",
  "fixed": "fixed",
}
LOSSES = {"rjs": "RJS", "rrhf": "RRHF", "dpo": "DPO"}
# What is compared, the first less the second.
CONTRASTS = (
  ("adversarial", "preferences_only"),
  ("adversarial", "fixed"),
  ("preferences_only", "fixed"),
)


class FigureOf(NamedTuple):
  """The number that a figure shows, and what its axis says."""

  number: str
  label: str


# By the names of their files.
FIGURES = {
  "utility": FigureOf("true_utility", "true utility"),
  "own_accuracy": FigureOf("own_accuracy", "accuracy, own samples"),
  "judge_gap": FigureOf("judge_gap", "judge's gap, std. dev."),
  "reward_gap": FigureOf("reward_gap", "reward model's gap, std. dev."),
  "kl": FigureOf("kl_to_start", "KL to the start, nats"),
}


class World(NamedTuple):
  """A grid of all modes and losses in one world.

  Attributes:
    folder: in docs/results.
    name: what it is called in tables.
  """

  folder: str
  name: str


class Factor(NamedTuple):
  """One field that is varied for one arm.

  Attributes:
    folder: in docs/results.
    field: of the config.
    name: what its values are called in tables.
    usual: the value that the grid has, which the others are compared with.
  """

  folder: str
  field: str
  name: str
  usual: str


WORLDS = (
  World("uncovered", "preferences do not show the policy's failures"),
  World("covered", "preferences show the policy's failures"),
)
FACTORS = (
  Factor("golden_coefficient", "reward.apo.golden_coefficient", "c_apo", "1.0"),
  Factor("samples", "sampling.training.num_samples", "S", "4"),
  Factor("golden", "data.golden", "golden responses", ""),
  Factor("reward_start", "reward.start", "the reward model starts a round from", "previous"),
  Factor("policy_start", "policy.start", "the policy starts a round from", "previous"),
)
# Golden responses without adaptation: the game's reward model of round 1, kept as it is.
GOLDEN_ONCE = "golden_once"
# The game itself for as many rounds.
LONGER = "longer"
# Reward models of other sizes: by the folder that their checkpoints lie in, what they are called.
REWARD_SIZE = "reward_size"
SIZES = {"half": "half as wide", "usual": "as wide as the policy", "double": "twice as wide"}
FOLDERS = (*(part.folder for part in (*WORLDS, *FACTORS)), GOLDEN_ONCE, LONGER, REWARD_SIZE)
# What values are called that say little by themselves.
VALUES = {"data.golden": {"": "the stronger source's", "chosen": "chosen"}}
