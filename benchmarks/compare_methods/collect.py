"""One small CSV of finished runs of a sweep over configs/methods.

    python -m benchmarks.compare_methods.collect runs/sweeps/methods --seeds=5,6 \
      --output=docs/methods_compared/search --played="python -m apo_jax.sweep --config=… --set …"

A row is a run after a round. No model is read. With --add the rows of other runs that the output
already has are kept, and so is where they are from.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError
from benchmarks.compare_methods.methods import ALL_RATES, RATE
from benchmarks.does_apo_help.collect import commit_of, facts_of, finished_runs, numbers_of
from benchmarks.does_apo_help.results import Row, read_results, write_results
from benchmarks.pages import Parser

_KEPT = (
  "true_utility",
  "testing_reward",
  "judge_gap",
  "win_rate_golden",
  "kl_to_start",
  "response_length",
  "unfinished",
  "improper_ending",
  "repetition",
  "own_accuracy",
)


def main(arguments: Sequence[str]) -> int:
  """Collects what the flags say; returns the exit code."""
  parser = Parser(
    prog="python -m benchmarks.compare_methods.collect",
    description=__doc__.split("\n")[0],
    allow_abbrev=False,
  )
  parser.add_argument("sweep", type=Path, metavar="SWEEP_DIR")
  parser.add_argument("--seeds", required=True, help="Whose runs, such as 5,6.")
  parser.add_argument("--output", type=Path, required=True, metavar="DIR")
  parser.add_argument("--played", required=True, metavar="COMMAND", help="What played them.")
  parser.add_argument("--commit", help="Of the code; by default of the checkout they lie in.")
  parser.add_argument("--add", action="store_true", help="Keep what is there of other runs.")
  given = parser.parse_args(arguments)
  try:
    rows, facts = collect(given.sweep, {int(seed) for seed in given.seeds.split(",")})
    command = shlex.join(("python", "-m", "benchmarks.compare_methods.collect", *arguments))
    commit = given.commit or commit_of(given.sweep)
    provenance = {"played": given.played, "collected": command, "commit": commit, **facts}
    if given.add:
      before = read_results(given.output)
      rows = beside(before.rows, rows)
      known = dict(before.provenance)
      provenance["kept"] = [*known.pop("kept", ()), known]
    write_results(given.output, rows, provenance)
  except ConfigError as error:
    return refuse(str(error))
  except (OSError, ValueError) as error:
    return refuse(f"The runs cannot be collected: {error}.")
  for sentence in facts["left_out"]:
    print(f"Left out: {sentence}")
  print(f"{facts['runs']} runs: {given.output}")
  return 0


def collect(sweep: Path, seeds: set[int]) -> tuple[list[Row], dict]:
  """The rows of the finished runs of these seeds, and what is to be known of them.

  Raises:
    ConfigError: a seed has no finished run.
    OSError, ValueError: a file is not there or is damaged, or a run's name is no method's.
  """
  found = [finished_runs(sweep, f"config=*,seed={seed}") for seed in sorted(seeds)]
  runs = [run for one in found for run in one.runs]
  left_out = [sentence for one in found for sentence in one.left_out]
  rows = []
  for run in runs:
    method = run.path.name.split(",")[0].removeprefix("config=")
    rate = run.config["policy"]["training"]["learning_rate"]
    (typed,) = [one for one in ALL_RATES if float(one) == rate]
    for round in run.rounds:
      numbers = numbers_of(run, round)
      kept = {name: numbers[name] for name in _KEPT if name in numbers}
      rows.append(Row({"method": method, RATE: typed}, run.seed, round, kept))
  return in_order(rows), {"left_out": left_out, **facts_of(runs)}


def beside(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
  """The rows, and those of runs that they do not have."""
  ours = {(*row.setting.values(), row.seed) for row in rows}
  kept = [row for row in before if (*row.setting.values(), row.seed) not in ours]
  return in_order([*kept, *rows])


def in_order(rows: Sequence[Row]) -> list[Row]:
  """By method, rate, seed and round."""
  return sorted(
    rows, key=lambda row: (row.setting["method"], float(row.setting[RATE]), row.seed, row.round)
  )


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
