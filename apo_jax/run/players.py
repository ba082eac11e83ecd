"""The players by name, and who starts from whom."""

import dataclasses
from typing import Literal

from apo_jax.config.schema import Config

Kind = Literal["policy", "reward", "testing_reward"]

# The phases before the first round, each of which makes the first player of its kind.
_FIRST_PHASES: dict[Kind, str] = {
  "policy": "supervised",
  "reward": "reward_base",
  "testing_reward": "testing_reward",
}


@dataclasses.dataclass(frozen=True)
class Player:
  """A policy or reward model as a round's training left it.

  Attributes:
    kind: a testing reward model judges the policies, and is there in round 0 alone.
    round: the round; 0 for what comes before the first.
  """

  kind: Kind
  round: int = 0

  @property
  def phase(self) -> str:
    """The training phase that makes it; its file `PHASE.json` says that the player is finished."""
    return self.kind if self.round else _FIRST_PHASES[self.kind]

  @property
  def name(self) -> str:
    """What its checkpoints are called, such as "00_reward_base" or "01_policy"."""
    return f"{self.round:02d}_{self.phase}"

  @property
  def is_policy(self) -> bool:
    """Whether it is a policy; else it is a reward model."""
    return self.kind == "policy"


@dataclasses.dataclass(frozen=True)
class Players:
  """The players of a game; `config` says what each round starts from."""

  config: Config

  def policy_after(self, round: int) -> Player:
    """The policy as a round left it; round 0 is the supervised start."""
    return Player("policy", round)

  def reward_after(self, round: int) -> Player:
    """The reward model as a round left it; round 0 is its base."""
    return Player("reward", 0 if self.config.reward.update == "fixed" else round)

  @property
  def testing_reward(self) -> Player:
    """The reward model that judges the policies."""
    return Player("testing_reward")

  def policy_start(self, round: int) -> Player:
    """The policy that a round's policy step starts from."""
    return self.policy_after(0 if self.config.policy.start == "base" else round - 1)

  def reward_start(self, round: int) -> Player:
    """The reward model that a round's reward step starts from."""
    return self.reward_after(0 if self.config.reward.start == "base" else round - 1)

  def reference(self, round: int) -> Player:
    """The reference policy of a round."""
    if self.config.policy.reference == "initial":
      return self.policy_after(0)
    return self.policy_start(round)
