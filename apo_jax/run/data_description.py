"""What a run directory says of the run's data."""

from typing import Any

from apo_jax.data.records import GameData
from apo_jax.data.sources import fingerprint
from apo_jax.data.tokenised import Tokenised, TokenisedData, cut_and_left_out


def describe_data(data: GameData, tokenised: TokenisedData) -> dict[str, Any]:
  """What data.json holds: the hash, the sizes, what each source gave and what does not fit."""
  return {
    "sha256": fingerprint(data),
    **_sizes(data),
    "sources": [report.to_dict() for report in data.reports],
    "lengths": cut_and_left_out(tokenised),
  }


def examples(data: TokenisedData) -> list[Tokenised]:
  """One of each kind, of what is trained on."""
  return [data.reward.preferences[0], data.reward.golden[0], data.policy.queries[0]]


def _sizes(data: GameData) -> dict[str, Any]:
  splits = {"reward": data.reward, "policy": data.policy, "test": data.test}
  return {
    "demonstrations": len(data.demonstrations),
    **{
      name: {field: len(records) for field, records in vars(split).items()}
      for name, split in splits.items()
    },
  }
