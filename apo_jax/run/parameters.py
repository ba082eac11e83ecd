"""The players' parameters, read from checkpoints as needed and parked while nobody reads them."""

import collections
import functools

import jax

from apo_jax.logs.files import read_json
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.models.definition import Definition, Parameters, join
from apo_jax.run.models import Models
from apo_jax.run.parking import fetch, host_memory, park
from apo_jax.run.players import Player
from apo_jax.run.starts import frozen_policy, frozen_reward, share_frozen
from apo_jax.training.checkpoints import DamagedCheckpoint, load_parameters

# Sets of parameters that stay in memory: the policy at work and the reward model at work.
_KEPT_IN_MEMORY = 2


def load_last(directory: RunDirectory, player: Player, definition: Definition) -> Parameters:
  """The trained parameters that a player's phase ended with.

  Raises:
    DamagedCheckpoint: they cannot be had.
  """
  updates = read_json(directory.round(player.round) / f"{player.phase}.json")["updates"]
  return load_parameters(directory.checkpoints(player.name), definition, updates)


def finished_parameters(
  directory: RunDirectory, player: Player, definition: Definition
) -> Parameters:
  """The same for who cannot do without: the error says how the phase is played again."""
  try:
    return load_last(directory, player, definition)
  except DamagedCheckpoint as error:
    raise DamagedCheckpoint(
      f"{error} Start the run with --repair, which plays what is needed again."
    ) from error


class ParameterStore:
  """Trained parameters by player and frozen ones by model.

  They are kept apart, as they go to the host and back one by one.

  Args:
    models: the run's.
    directory: whose checkpoints are read.
    park_idle_player: whether what nobody reads waits in the host's memory.
  """

  def __init__(self, models: Models, directory: RunDirectory, *, park_idle_player: bool):
    self._models = models
    self._directory = directory
    self._parks = park_idle_player
    self._trained: collections.OrderedDict[Player, Parameters] = collections.OrderedDict()
    self._frozen: dict[Definition, Parameters] = {}

  def remember(self, player: Player, trained: Parameters) -> None:
    """Keeps a player's trained parameters in memory, and lets go of those not used for longest."""
    self._trained[player] = trained
    self._trained.move_to_end(player)
    self._forget(_KEPT_IN_MEMORY)

  def of(self, player: Player) -> Parameters:
    """A player's parameters, trained and frozen, from memory or its checkpoint.

    What other players alone need is parked before.
    """
    definition = self._models.of(player)
    self.park_idle(definition, player)
    if player not in self._trained:
      self._forget(_KEPT_IN_MEMORY - 1)  # before the new ones take their memory
      self.remember(player, finished_parameters(self._directory, player, definition))
    elif self._parks:
      self._trained[player] = fetch(self._trained[player], self._host)
    self._trained.move_to_end(player)
    return join(self._trained[player], self.frozen(definition))

  def frozen(self, definition: Definition) -> Parameters:
    """The frozen parameters of one of the run's models; none where all are trained."""
    if definition not in self._frozen:
      self._frozen[definition] = self._begin_frozen(definition)
    elif self._parks:
      self._frozen[definition] = fetch(self._frozen[definition], self._host)
    return self._frozen[definition]

  def park_idle(self, definition: Definition, player: Player | None = None) -> None:
    """Moves to the host all parameters but `player`'s trained and `definition`'s frozen ones.

    Frozen parameters that both models read stay. Does nothing unless idle players are to park.
    """
    if not self._parks:
      return
    in_use = {id(array) for array in jax.tree.leaves(self._frozen.get(definition, {}))}
    for other, frozen in self._frozen.items():
      if other is not definition:
        self._frozen[other] = park(frozen, self._host, in_use)
    for one, trained in self._trained.items():
      if one != player:
        self._trained[one] = park(trained, self._host)

  def _begin_frozen(self, definition: Definition) -> Parameters:
    origins, policy = self._models.origins, self._models.policy
    if definition is policy:
      return frozen_policy(origins, policy)
    shared = self.frozen(policy) if share_frozen(origins, policy, definition) else {}
    return frozen_reward(origins, policy, shared, definition)

  @functools.cached_property
  def _host(self) -> str:
    return host_memory(self._models.mesh)

  def _forget(self, kept: int) -> None:
    while len(self._trained) > kept:
      self._trained.popitem(last=False)
