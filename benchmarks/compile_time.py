"""How long our steps and sampling take to compile, at two depths: they should hardly differ.

    python -m benchmarks.compile_time

Every measurement is a new process, because a process remembers what it compiled.
"""

import pathlib
import statistics
import tempfile
from collections.abc import Sequence

from absl import app, flags

from benchmarks import data, race, report, settings

FLAGS = flags.FLAGS

flags.DEFINE_integer("shallow", 8, "Layers of the first model.", lower_bound=1)
flags.DEFINE_integer("deep", 32, "Layers of the second; --layers is not read.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
  """Runs the benchmark."""
  del argv
  vocab = FLAGS.vocab_size
  # As in the other benchmarks; the reward step ranks the same pairs.
  job = {
    "work": "compilation",
    "items": data.items(4, 2, 96, 160, vocab),
    "queries": data.queries(8, 64, vocab),
    "batch": 8,
    "lengths": [[64] * 4] * 8,
  }
  depths = (FLAGS.shallow, FLAGS.deep)
  seconds: dict[int, dict[str, list[float]]] = {depth: {} for depth in depths}
  with tempfile.TemporaryDirectory() as folder:
    for turn in range(FLAGS.repeats):
      for depth in depths:
        model = settings.model()
        model["shape"]["layers"] = depth
        entry = race.Entry(f"{depth} layers, {turn}", race.OURS, job | {"model": model})
        (measured,) = race.alone(entry, ["run"], pathlib.Path(folder))
        race.say(str(measured))
        for program, taken in measured.items():
          seconds[depth].setdefault(program, []).append(taken)
  medians = {
    depth: {program: statistics.median(taken) for program, taken in programs.items()}
    for depth, programs in seconds.items()
  }
  shallow, deep = (medians[depth] for depth in depths)
  rows = [
    [name, f"{shallow[name]:.2f}", f"{deep[name]:.2f}", f"{deep[name] / shallow[name]:.2f}x"]
    for name in shallow
  ]
  headings = ["seconds to compile", *(f"{depth} layers" for depth in depths), "grows"]
  report.finish(
    "compile_time",
    {"shallow": FLAGS.shallow, "deep": FLAGS.deep},
    report.table(headings, rows),
    {"seconds": seconds, "medians": medians},
  )


if __name__ == "__main__":
  app.run(main)
