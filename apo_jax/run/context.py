"""What every phase of a run reads: config, data, models, and the players' parameters by name."""

import collections
import functools
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from apo_jax.config.schema import Config
from apo_jax.data.records import GameData
from apo_jax.data.tokens import Codec
from apo_jax.inference.sampler import Sampler
from apo_jax.inference.scoring import Scorer, make_logprob_scorer, make_reward_scorer
from apo_jax.logs.metrics import MetricsWriter
from apo_jax.logs.progress import Progress
from apo_jax.models.definition import (
  Definition,
  Parameters,
  define_policy,
  define_reward_model,
  join,
)
from apo_jax.models.row_cost import row_flops
from apo_jax.rows.layouts import RowLayout, choose_layout
from apo_jax.run import seeds
from apo_jax.run.origins import Origins
from apo_jax.run.parking import fetch, host_memory, park
from apo_jax.run.starts import frozen_policy, frozen_reward, share_frozen
from apo_jax.training.checkpoints import load_parameters

# Sets of parameters that stay in memory: the policy at work and the reward model at work.
_KEPT_IN_MEMORY = 2


class RunContext:
  """A run's fixed parts, made on first use, and its parameters, read from checkpoints as needed.

  Players are named as their checkpoints are: "00_supervised", "00_reward_base",
  "00_testing_reward", then "01_reward", "01_policy", and so on.
  """

  def __init__(
    self,
    config: Config,
    run_dir: Path,
    mesh: Mesh,
    origins: Origins,
    data: GameData,
    codec: Codec,
    progress: Progress,
    writer: MetricsWriter,
  ):
    self.config = config
    self.run_dir = run_dir
    self.mesh = mesh
    self.origins = origins
    self.data = data
    self.codec = codec
    self.progress = progress
    self.writer = writer
    # Trained parameters by player, frozen ones by model: they go to the host and back one by one.
    self._trained: collections.OrderedDict[str, Parameters] = collections.OrderedDict()
    self._frozen: dict[str, Parameters] = {}
    self._made: dict[Hashable, Any] = {}

  @property
  def is_writer(self) -> bool:
    """Whether this process writes the run directory's files."""
    return jax.process_index() == 0

  @functools.cached_property
  def policy(self) -> Definition:
    """The policy's model."""
    return define_policy(self.origins.policy, self.mesh, self.config.policy.lora)

  @functools.cached_property
  def reward_model(self) -> Definition:
    """The reward model, of training and of testing alike."""
    reward = self.config.reward
    return define_reward_model(self.origins.reward, reward.pooling, self.mesh, reward.lora)

  def frozen(self, definition: Definition) -> Parameters:
    """The frozen parameters of one of the run's models; none where all are trained."""
    name = "policy" if definition is self.policy else "reward"
    if name not in self._frozen:
      self._frozen[name] = self._begin_frozen(definition)
    elif self._parks:
      self._frozen[name] = fetch(self._frozen[name], self._host)
    return self._frozen[name]

  def _begin_frozen(self, definition: Definition) -> Parameters:
    if definition is self.policy:
      return frozen_policy(self.origins, self.policy)
    shares = share_frozen(self.origins, self.policy, self.reward_model)
    policy = self.frozen(self.policy) if shares else {}
    return frozen_reward(self.origins, self.policy, policy, self.reward_model)

  @functools.cached_property
  def sampler(self) -> Sampler:
    """Draws responses from a policy."""
    return Sampler(
      self.policy,
      self.codec,
      self.mesh,
      buckets=self.config.data.query_buckets,
      batch_size=self.config.sampling.batch_size,
      cache_dtype=self.config.sampling.cache_dtype,
      gather_weights=self.config.sampling.gather_weights,
    )

  @functools.cached_property
  def reward_scorer(self) -> Scorer:
    """Scores sequences with a reward model."""
    return make_reward_scorer(self.reward_model, self.mesh, **self._scoring_shape)

  @functools.cached_property
  def logprob_scorer(self) -> Scorer:
    """Log-probabilities of responses under a policy."""
    return make_logprob_scorer(self.policy, self.mesh, **self._scoring_shape)

  @property
  def _scoring_shape(self) -> dict[str, Any]:
    # Samples of the evaluation may be much longer than those of training.
    evaluated = self.config.data.query_length + self.config.sampling.evaluation.max_new_tokens + 1
    return {
      "batch_size": self.config.evaluation.batch_size,
      "query_length": self.config.data.query_length,
      "lengths": (*self.row_lengths, evaluated),
      "eos": self.codec.eos,
    }

  @property
  def row_lengths(self) -> tuple[int, ...]:
    """Padded lengths of training rows of one response, ascending.

    The last holds the longest query, and the longest response or sample with eos.
    """
    data = self.config.data
    sampled = self.config.sampling.training.max_new_tokens + 1
    longest = data.query_length + max(data.response_length, sampled)
    return (*(length for length in data.row_buckets if length < longest), longest)

  def row_layout(self, definition: Definition, num_responses: int) -> RowLayout:
    """How one of the run's models reads training rows of so many responses to a query."""
    query_length = self.config.data.query_length
    flops = functools.partial(row_flops, definition.architecture)
    return choose_layout(flops, num_responses, query_length, self.row_lengths)

  def round_dir(self, round: int) -> Path:
    """The directory of a round's results."""
    return self.run_dir / "rounds" / f"{round:02d}"

  def checkpoint_dir(self, player: str) -> Path:
    """The directory of a player's checkpoints."""
    return self.run_dir / "checkpoints" / player

  def seed(self, *purpose: str | int) -> int:
    """The seed for a purpose."""
    return seeds.derive_seed(self.config.seed, *purpose)

  def policy_after(self, round: int) -> str:
    """The policy as a round left it; round 0 is the supervised start."""
    return f"{round:02d}_policy" if round else "00_supervised"

  def reward_after(self, round: int) -> str:
    """The reward model as a round left it; round 0 is its base."""
    changed = round and self.config.reward.update != "fixed"
    return f"{round:02d}_reward" if changed else "00_reward_base"

  @property
  def testing_reward(self) -> str:
    """The reward model that judges the policies."""
    return "00_testing_reward"

  def policy_start(self, round: int) -> str:
    """The policy that a round's policy step starts from."""
    return self.policy_after(0 if self.config.policy.start == "base" else round - 1)

  def reward_start(self, round: int) -> str:
    """The reward model that a round's reward step starts from."""
    return self.reward_after(0 if self.config.reward.start == "base" else round - 1)

  def reference(self, round: int) -> str:
    """The reference policy of a round."""
    if self.config.policy.reference == "initial":
      return self.policy_after(0)
    return self.policy_start(round)

  def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` makes, made once a run: a jitted step that every round uses again."""
    if key not in self._made:
      self._made[key] = make()
    return self._made[key]

  def remember(self, player: str, trained: Parameters) -> None:
    """Keeps a player's trained parameters in memory, and lets go of those not used for longest."""
    self._trained[player] = trained
    self._trained.move_to_end(player)
    self._forget(_KEPT_IN_MEMORY)

  def parameters(self, player: str) -> Parameters:
    """A player's parameters, trained and frozen, from memory or its checkpoint.

    With `memory.park_idle_player` all that other players alone need is parked on the host before.
    """
    definition = self.reward_model if "reward" in player else self.policy
    self.park_idle(definition, player)
    if player not in self._trained:
      self._forget(_KEPT_IN_MEMORY - 1)  # before the new ones take their memory
      self.remember(player, load_parameters(self.checkpoint_dir(player), definition))
    elif self._parks:
      self._trained[player] = fetch(self._trained[player], self._host)
    self._trained.move_to_end(player)
    return join(self._trained[player], self.frozen(definition))

  def park_idle(self, definition: Definition, player: str | None = None) -> None:
    """Moves to the host all parameters but `player`'s trained and `definition`'s frozen ones.

    Frozen parameters that both models read stay. Does nothing without `memory.park_idle_player`.
    """
    if not self._parks:
      return
    active = "policy" if definition is self.policy else "reward"
    in_use = {id(array) for array in jax.tree.leaves(self._frozen.get(active, {}))}
    for name, frozen in self._frozen.items():
      if name != active:
        self._frozen[name] = park(frozen, self._host, in_use)
    for name, trained in self._trained.items():
      if name != player:
        self._trained[name] = park(trained, self._host)

  @property
  def _parks(self) -> bool:
    return self.config.memory.park_idle_player

  @functools.cached_property
  def _host(self) -> str:
    return host_memory(self.mesh)

  def _forget(self, kept: int) -> None:
    while len(self._trained) > kept:
      self._trained.popitem(last=False)
