"""Runs as settings: what is the same but for the seed, named by what differs."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apo_jax.compare.runs import ComparedRun
from apo_jax.config.base import to_dict
from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.logs.places import is_bucket, resolved
from apo_jax.run.ownership import fixed_fields

_MAX_FIELDS_OF_A_NAME = 3
# What the judge is made from; where it differs, settings have judges of other strictness.
_JUDGE = (
  "data",
  "model",
  "tokenizer",
  "supervised",
  "reward.base",
  "reward.lora",
  "reward.pooling",
  "reward.terms",
  "testing_reward",
)


@dataclasses.dataclass(frozen=True)
class Setting:
  """Runs with equal configs apart from the seed, and from what changes no game.

  Attributes:
    name: the fields in which it differs from the others, such as "policy.loss=dpo".
    label: their values alone, such as "dpo", where that is told apart.
    fields: the value of every field that is not the same in all settings, as it is shown; those
      that it does not have are not there.
    runs: one a seed, ascending.
  """

  name: str
  label: str
  fields: Mapping[str, str]
  runs: Sequence[ComparedRun]

  @property
  def by_seed(self) -> dict[int, ComparedRun]:
    """The runs by their seeds."""
    return {run.seed: run for run in self.runs}

  @property
  def seeds(self) -> list[int]:
    """Ascending."""
    return [run.seed for run in self.runs]


def make_settings(runs: Sequence[ComparedRun]) -> list[Setting]:
  """The runs' settings, in the order of their first runs.

  Raises:
    ConfigError: two runs have one config and one seed, or runs of a seed and of equal data fields
      have other data.
  """
  groups: dict[str, list[ComparedRun]] = {}
  for run in runs:
    groups.setdefault(json.dumps(_what_it_is(run), sort_keys=True), []).append(run)
  for group in groups.values():
    _check_seeds(group)
  _check_data(runs)
  flat = [_flat(_what_it_is(group[0])) for group in groups.values()]
  names = list(dict.fromkeys(name for one in flat for name in one))
  differing = [name for name in names if len({one.get(name) for one in flat}) > 1]
  # Fields of what was chosen are not the others' to have: the choice itself says that.
  telling = [name for name in differing if len({one[name] for one in flat if name in one}) > 1]
  named = _named(flat, telling)
  if len(telling) > _MAX_FIELDS_OF_A_NAME:
    named = _without_the_usual(named)
  if len(set(map(tuple, named))) < len(named):
    named = _named(flat, differing)
  labels = [", ".join(value for _, value in fields) for fields in named]
  full = [", ".join(f"{name}={value}" for name, value in fields) for fields in named]
  if len(set(labels)) < len(labels):
    labels = full
  unnamed = "as most are" if len(groups) > 1 else "the only setting"
  return [
    Setting(
      name=name or unnamed,
      label=label or unnamed,
      fields={name: one[name] for name in differing if name in one},
      runs=sorted(group, key=lambda run: run.seed),
    )
    for name, label, one, group in zip(full, labels, flat, groups.values(), strict=True)
  ]


def find_baseline(settings: Sequence[Setting], named: str | None) -> Setting:
  """The setting that all are compared with: the first, or the one that is named.

  Args:
    settings: all of them.
    named: a setting's name or label, spaces and order aside, or the directory of one of its runs.

  Raises:
    ConfigError: there is no such setting.
  """
  if named is None:
    return settings[0]
  for setting in settings:
    if _packed(named) in (_packed(setting.name), _packed(setting.label)):
      return setting
  for setting in settings:
    for run in setting.runs:
      if named == run.name or _whole(named) == str(resolved(run.path)):
        return setting
  known = "; ".join(setting.name for setting in settings)
  raise ConfigError(f"--baseline is {named!r}; it must be one of the runs, or a setting: {known}.")


def judge_fields(settings: Sequence[Setting]) -> list[str]:
  """The fields in which settings differ and which their judges are made from."""
  names = dict.fromkeys(name for setting in settings for name in setting.fields)
  return [name for name in names if any(f"{name}.".startswith(f"{one}.") for one in _JUDGE)]


def _named(flat: Sequence[Mapping[str, str]], fields: Sequence[str]) -> list[list[tuple[str, str]]]:
  """Each setting's values of these fields, of those that it has."""
  return [[(name, one[name]) for name in fields if name in one] for one in flat]


def _without_the_usual(
  named: Sequence[Sequence[tuple[str, str]]],
) -> list[list[tuple[str, str]]]:
  """The same without the values that more than half of the settings have."""
  counts = collections.Counter(field for fields in named for field in fields)
  return [[one for one in fields if 2 * counts[one] <= len(named)] for fields in named]


def _whole(path: str) -> str:
  return path.rstrip("/") if is_bucket(path) else str(Path(path).resolve())


def _packed(name: str) -> list[str]:
  """The parts of a name, in whatever order and with whatever spaces they are given."""
  return sorted("".join(name.split()).split(","))


def _what_it_is(run: ComparedRun) -> dict[str, Any]:
  """The fields that make the run's game what it is, but for the seed.

  Of a branched run also which others its first rounds were played with.
  """
  whole = _with_defaults(run.config, to_dict(Config()))
  found = {name: value for name, value in fixed_fields(whole).items() if name != "seed"}
  played = {} if run.branch is None else run.branch.played
  return {**found, "branched": played} if played else found


def _with_defaults(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
  """The fields, and what an older version did not write yet, which is what it did: the default.

  A section that is not there is left so: it is that of a choice which was not taken.
  """
  whole = dict(fields)
  for name, default in defaults.items():
    if name in whole and isinstance(default, dict) and isinstance(whole[name], dict):
      whole[name] = _with_defaults(whole[name], default)
    elif name not in whole and not isinstance(default, dict):
      whole[name] = default
  return whole


def _flat(fields: Mapping[str, Any], path: str = "") -> dict[str, str]:
  """Every field's value as a flag would give it, by dotted name."""
  found = {}
  for name, value in fields.items():
    if isinstance(value, Mapping):
      found |= _flat(value, f"{path}{name}.")
    else:
      found[f"{path}{name}"] = _shown(value)
  return found


def _shown(value: Any) -> str:
  if isinstance(value, list):
    return str(tuple(value))
  return value if isinstance(value, str) and value else repr(value)


def _check_seeds(group: Sequence[ComparedRun]) -> None:
  known: dict[int, ComparedRun] = {}
  for run in group:
    if run.seed in known:
      raise ConfigError(
        f"{known[run.seed].path} and {run.path} have the same config and both seed {run.seed}, so "
        "they are one draw and not two; give one of them, or runs of other seeds."
      )
    known[run.seed] = run


def _check_data(runs: Sequence[ComparedRun]) -> None:
  known: dict[str, ComparedRun] = {}
  for run in runs:
    if run.data is None:
      continue
    first = known.setdefault(json.dumps([run.seed, run.config["data"]], sort_keys=True), run)
    if first.data != run.data:
      raise ConfigError(
        f"{first.path} and {run.path} have different data, though their configs name the same: "
        "its files have changed in between; give runs on the same data."
      )
