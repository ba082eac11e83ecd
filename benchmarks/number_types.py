"""What bfloat16 masters and moments cost in quality: the demo with each type, over seeds.

    python -m benchmarks.number_types --seeds=5 --json=runs/benchmarks/number_types.json

Each run is a whole game (minutes on a CPU), which goes on where it was stopped. The table has
means over seeds with their standard errors, and how much games change against float32's of the same
seed.
"""

import json
import math
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence

from absl import app, flags

FLAGS = flags.FLAGS

flags.DEFINE_integer("seeds", 5, "Games of each type.", lower_bound=2)
flags.DEFINE_string("runs", "runs/number_types", "Where the run directories lie.")
flags.DEFINE_string("json", "runs/benchmarks/number_types.json", "Where the numbers go.")
flags.DEFINE_list("set", [], "Fields of every game, as in --set=config.rounds=1.")

_TRAININGS = ("supervised", "reward.base", "reward.training", "policy.training")
_MEANS = [f"--config.{training}.mean_dtype=bfloat16" for training in _TRAININGS]
TYPES = {
  "float32": [],
  "mean": _MEANS,
  "masters": ["--config.model.master_dtype=bfloat16"],
  "both": ["--config.model.master_dtype=bfloat16", *_MEANS],
}
METRICS = ("true_utility", "win_rate_start", "reward_accuracy", "kl_to_start")


def main(argv: Sequence[str]) -> None:
  """Plays what is not played yet, and prints the table."""
  del argv
  found = {name: [_play(name, seed) for seed in range(FLAGS.seeds)] for name in TYPES}
  pathlib.Path(FLAGS.json).parent.mkdir(parents=True, exist_ok=True)
  pathlib.Path(FLAGS.json).write_text(json.dumps(found, indent=1) + "\n")
  print(f"{'bfloat16':10}" + "".join(f"{metric:>26}" for metric in METRICS))
  for name, games in found.items():
    print(f"{name:10}" + "".join(f"{_cell(games, metric):>26}" for metric in METRICS))
    if name != "float32":
      pairs = [
        {metric: game[metric] - wide[metric] for metric in METRICS}
        for game, wide in zip(games, found["float32"], strict=True)
      ]
      print(f"{'  change':10}" + "".join(f"{_cell(pairs, metric):>26}" for metric in METRICS))


def _play(name: str, seed: int) -> dict[str, float]:
  """The last round's numbers of one game."""
  run_dir = pathlib.Path(FLAGS.runs) / f"{name}_{seed}"
  given = [f"--{field}" for field in FLAGS.set]
  command = [sys.executable, "-m", "apo_jax.main", "--config=configs/demo.py"]
  command += [f"--config.seed={seed}", f"--run_dir={run_dir}", *given, *TYPES[name]]
  # A finished game ends at once, another goes on.
  subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
  last = max(run_dir.glob("rounds/*/evaluation.json"))
  evaluation = json.loads(last.read_text())
  return {metric: float(evaluation[metric]) for metric in METRICS}


def _cell(games: list[dict[str, float]], metric: str) -> str:
  values = [game[metric] for game in games]
  error = statistics.stdev(values) / math.sqrt(len(values))
  return f"{statistics.fmean(values):+.4f} ± {error:.4f}"


if __name__ == "__main__":
  app.run(main)
