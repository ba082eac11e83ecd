"""A run that was branched from another: what it has from there, and what that forbids.

`branch.json` is written by `apo_jax.branch`. The rounds that were taken over were played with the
other run's config, so that they are never played again here, nor shared as if this run's config had
given them.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.logs.files import read_json
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.ownership import makes_a_run
from apo_jax.run.phase_inputs import PhaseName, phase_names


class Branch(NamedTuple):
  """What branch.json holds.

  Attributes:
    run: the directory of the other run, as it was when this one was made.
    round: the last round that was taken over.
    changed: the fields that differ, by dotted path, each with its old and its new value.
    code: a hash of the package's source that made the branch.
    commit: of that source, where it lay in a git repository.
    before: the same of the other run, where it was branched itself.
  """

  run: str
  round: int
  changed: Mapping[str, tuple[Any, Any]]
  code: str
  commit: str | None
  before: "Branch | None" = None

  @property
  def sentence(self) -> str:
    """What is to be known of a run's origin."""
    fields = "; ".join(f"{name}: {old!r} to {new!r}" for name, (old, new) in self.changed.items())
    said = f"Branched from {self.run} after round {self.round}, with "
    said += f"{fields}." if fields else "no field changed."
    return said if self.before is None else f"{said} That run: {self.before.sentence}"

  @property
  def played(self) -> dict[str, dict[str, Any]]:
    """Rounds that were played with other values of fields that make a run, and these values.

    Keys are "until_round_N". It is empty where all rounds were played with the run's own config.
    """
    found: dict[int, dict[str, Any]] = {}
    own: dict[str, Any] = {}  # the run's own value of each field that was ever another
    old: dict[str, Any] = {}
    one, until = self, self.round
    while one is not None:
      until = min(until, one.round)  # rounds of a run that was branched earlier than it was itself
      for name, (before, after) in one.changed.items():
        own.setdefault(name, after)
        old[name] = before
      found[until] = {
        path: value
        for name, value in old.items()
        if makes_a_run(path := name.removeprefix("config.")) and value != own[name]
      }
      one = one.before
    return {f"until_round_{round}": fields for round, fields in found.items() if fields}


def read_branch(directory: RunDirectory) -> Branch | None:
  """What a run was branched from; None where it began by itself.

  Raises:
    ConfigError: its branch.json is damaged.
  """
  try:
    return _branch(read_json(directory.branch)) if directory.branch.exists() else None
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    said = f"{error} is missing" if isinstance(error, KeyError) else error
    raise ConfigError(
      f"{directory.branch}, which says what the run was branched from, is damaged: {said}; put"
      " back what was there, or branch again."
    ) from error


def to_json(branch: Branch) -> dict[str, Any]:
  """What branch.json holds."""
  before = None if branch.before is None else to_json(branch.before)
  return {**branch._asdict(), "before": before}


def _branch(known: Mapping[str, Any]) -> Branch:
  changed = {str(name): (old, new) for name, (old, new) in known["changed"].items()}
  before = None if known["before"] is None else _branch(known["before"])
  return Branch(
    str(known["run"]), int(known["round"]), changed, known["code"], known["commit"], before
  )


def check_taken_over(
  directory: RunDirectory, config: Config, unusable: Collection[PhaseName]
) -> None:
  """Checks that nothing has to be played again that the run was branched with.

  Args:
    directory: of the run.
    config: the run's.
    unusable: phases whose result is missing or damaged, or that would be played again.

  Raises:
    ConfigError: it would have to be.
  """
  branch = read_branch(directory)
  if branch is None:
    return
  for name in phase_names(config):
    if name.round <= branch.round and name in unusable:
      raise ConfigError(
        f"What {name.words} left in {directory} is missing or damaged; the run has it from"
        f" {branch.run}, which played it with another config: put back what was there, or branch"
        " again."
      )


def refuse_sharing(directory: RunDirectory) -> None:
  """Checks that a run which shares phases was not branched.

  Raises:
    ConfigError: it was: its phases are not those of its config played from the start.
  """
  branch = read_branch(directory)
  if branch is not None:
    raise ConfigError(
      f"--share is given, but the run in {directory} was branched from {branch.run} after round"
      f" {branch.round}: its phases are not what its config gives from the start; leave --share"
      " out."
    )
