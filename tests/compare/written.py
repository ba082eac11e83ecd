"""Runs as finished games leave their numbers, written without playing."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from apo_jax.config.base import to_json
from apo_jax.config.schema import Config
from apo_jax.evaluation.record import evaluation_record, judgements_record, with_further
from apo_jax.evaluation.standard import Numbers, standard_numbers
from apo_jax.logs.files import write_json, write_jsonl
from apo_jax.objectives import DPO, RejectionSampling
from tests.evaluation.rounds import random_round

UPDATES = 3


def config(loss: type = DPO, seed: int = 0, rounds: int = 1, **policy: Any) -> Config:
  """A config whose policy learns by a loss."""
  base = Config()
  return dataclasses.replace(
    base,
    seed=seed,
    rounds=rounds,
    policy=dataclasses.replace(base.policy, loss=loss(), **policy),
  )


def write_run(
  path: Path,
  config: Config,
  *,
  gain: float = 0.0,
  num_queries: int = 12,
  num_rounds: int | None = None,
  data: str | None = None,
) -> list[Numbers]:
  """A run's files; returns its rounds' numbers.

  Runs of a seed have the same numbers, but that each round adds `gain` to every query's utility.
  """
  write_json(path / "config.json", to_json(config))
  write_json(path / "data.json", {"sha256": data or f"data of {config.seed}"})
  rounds = config.rounds if num_rounds is None else num_rounds
  written, lines = [], []
  for round in range(rounds + 1):
    judged = random_round(100 * config.seed + round, num_queries)
    judged = dataclasses.replace(judged, utilities=judged.utilities + gain * round)
    numbers = standard_numbers(judged, calibration_bins=4)
    numbers, plain = with_further(numbers, {"plain": 1.5 + gain}, {"words": np.ones(num_queries)})
    place = path / "rounds" / f"{round:02d}"
    write_json(place / "evaluation.json", evaluation_record(round, numbers, plain, {}))
    write_json(place / "judgements.json", judgements_record(numbers))
    write_jsonl(place / "test_samples.jsonl", _samples(judged, config, round))
    written.append(numbers)
    for step in range(1, UPDATES + 1):
      values = {"loss": 10 * round + step + config.seed + gain, "kl": None}
      lines.append({"time": 0.0, "round": round, "phase": "policy", "step": step, **values})
  write_jsonl(path / "metrics.jsonl", lines)
  return written


def write_grid(folder: Path, seeds: int = 3) -> None:
  """Two losses by some seeds; `rjs` has more of utility by 1, 2, 3, … a round, seed by seed."""
  for seed in range(seeds):
    write_run(folder / f"dpo-{seed}", config(DPO, seed))
    write_run(folder / f"rjs-{seed}", config(RejectionSampling, seed), gain=1.0 + seed)


def _samples(judged: Any, config: Config, round: int) -> list[dict[str, Any]]:
  return [
    {
      "query_id": query,
      "query": f"\n\nHuman: What of <{query}>?\n\nAssistant:",
      "golden": "That is it.",
      "golden_testing_reward": 1.0,
      "golden_utility": 1.0,
      "samples": [
        {
          "text": f" {config.policy.loss.name} says {query} in round {round}.",
          "tokens": [1, 2, 3],
          "finished": place > 0,
          "testing_reward": float(judged.rewards[place, 0]),
          "utility": float(judged.utilities[place, 0]),
        }
      ],
    }
    for place, query in enumerate(judged.query_ids)
  ]
