"""Which fields a branched run may have otherwise than the run it comes from."""

from collections.abc import Iterable
from typing import Any

from apo_jax.config.base import to_dict
from apo_jax.config.fields import ConfigError, field_hints, kind_of
from apo_jax.config.schema import Config
from apo_jax.run.ownership import differences

# What later rounds read, and nothing that finished ones left was made to fit.
MAY_CHANGE = (
  "rounds",
  "model.remat",
  "model.attention",
  "reward.mode",
  "reward.start",
  "reward.apo",
  "reward.weighting",
  "reward.preference_batch_size",
  "reward.training",
  "policy.loss",
  "policy.shapings",
  "policy.selections",
  "policy.replay",
  "policy.unfinished",
  "policy.start",
  "policy.reference",
  "policy.training",
  "sampling.training",
  "sampling.batch_size",
  "sampling.gather_weights",
  "evaluation.batch_size",
  "health",
  "mesh",
  "memory",
  "checkpoints",
  "logging",
)
# What all rounds are judged by: with another, a round's numbers could not be held against those of
# the rounds before it. `model.compute_dtype` is that of the judge's rewards too.
COMPARED_BY = ("evaluation", "sampling.evaluation", "sampling.cache_dtype", "model.compute_dtype")
# What was played before the first round, and not again.
PLAYED = ("supervised", "sampling.baselines", "reward.base", "reward.contrast", "testing_reward")
# What players, samples and data of the finished rounds are of.
MADE_OF = (
  "seed",
  "data",
  "tokenizer",
  "model",
  "policy.lora",
  "reward.checkpoint",
  "reward.lora",
  "reward.pooling",
  "reward.terms",  # they say whether it has a language-model head
)


def changed_fields(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
  """The fields that differ, by dotted path, with their old and new values in JSON's types.

  None stands for the fields of a choice that is not taken.

  Raises:
    ConfigError: one of them may not.
  """
  found = {
    field: (before, after)
    for field, before, after in differences(to_dict(old), to_dict(new), "config")
  }
  for field, (before, after) in found.items():
    path = field.removeprefix("config.")
    if not _is_within(path, _with_sections(MAY_CHANGE)):
      raise ConfigError(
        f"{field} is {after!r}, but the run to branch from has {before!r}, and {_reason(path)}."
        f" What a branched run may have otherwise: {', '.join(MAY_CHANGE)}."
      )
  return found


def _reason(path: str) -> str:
  if _is_within(path, COMPARED_BY):
    return "rounds are compared by it"
  if _is_within(path, PLAYED):
    return "what it is for was finished before the first round"
  return "what the finished rounds left was made with it"


def _is_within(path: str, sections: Iterable[str]) -> bool:
  return any(path == section or path.startswith(f"{section}.") for section in sections)


def _with_sections(fields: Iterable[str]) -> list[str]:
  """The same with the sections of all that a field may choose, which stand beside it."""
  found = []
  for field in fields:
    *outer, name = field.split(".")
    hint: Any = Config
    for part in outer:
      hint = field_hints(hint)[part]
    kind = kind_of(field_hints(hint)[name])
    found += [field, *(".".join([*outer, one]) for one in (kind.known if kind else ()))]
  return found
