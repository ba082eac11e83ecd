"""The players by name, and who starts from whom."""

import dataclasses
from typing import Literal

from apo_jax.config.schema import Config

Kind = Literal["policy", "reward", "testing_reward", "testing_trunk"]

# The phases before the first round, each of which makes the first player of its kind.
_FIRST_PHASES: dict[Kind, str] = {
  "policy": "supervised",
  "reward": "reward_base",
  "testing_reward": "testing_reward",
  "testing_trunk": "testing_trunk",
}


@dataclasses.dataclass(frozen=True)
class Player:
  """A policy or reward model as a round's training left it.

  Attributes:
    kind: a testing reward model judges the policies, and is there in round 0 alone; so is the
      testing trunk, a language model that it may start from.
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
    """Whether it is a policy, which answers queries."""
    return self.kind == "policy"


def made_by(round: int, phase: str) -> Player | None:
  """The player that a phase of a round makes; None where it makes none."""
  possible = [Player(kind, round) for kind in _FIRST_PHASES]
  return next((player for player in possible if player.phase == phase), None)


@dataclasses.dataclass(frozen=True)
class Players:
  """The players of a game; `config` says what each round starts from."""

  config: Config

  def policy_after(self, round: int) -> Player:
    """The policy as a round left it; round 0 is the supervised start."""
    return Player("policy", round)

  def reward_after(self, round: int) -> Player:
    """The reward model as a round left it; round 0 is its base."""
    return Player("reward", 0 if self.config.reward.mode == "fixed" else round)

  @property
  def testing_reward(self) -> Player:
    """The reward model that judges the policies."""
    return Player("testing_reward")

  @property
  def testing_trunk(self) -> Player:
    """The language model that the judge starts from where `testing_reward.shape` is given."""
    return Player("testing_trunk")

  def origin_of_rewards(self, player: Player) -> str:
    """What a reward model starts from before the first round: a player's name, or a checkpoint."""
    reward, own = self.config.reward, self.config.testing_reward
    if player == self.testing_reward and own.has_own_start:
      return own.checkpoint or self.testing_trunk.name
    if reward.checkpoint:
      return reward.checkpoint
    return self.config.model.checkpoint if reward.lora.rank else self.policy_after(0).name

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

  def earlier_reference(self, round: int) -> Player:
    """The policy that the reference of a round started from; the reference itself without one."""
    return self.reference(max(self.reference(round).round, 1))
