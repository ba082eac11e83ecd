"""The most memory that a DPO step takes: ours and TRL's with and without recomputing, Tunix's.

    python -m benchmarks.memory --trl_python=... --tunix_python=...

Each is a new process, alone, that makes two steps. On a CPU its memory is the largest resident set
that it had (`ru_maxrss`) minus what it held when its libraries were imported and no model was
built; on an accelerator, the most that its library's allocator gave out. The same rule for all.
"""

import pathlib
import statistics
import tempfile
from collections.abc import Sequence

from absl import app, flags

from benchmarks import pairs, race, report

FLAGS = flags.FLAGS

GIB = 2.0**30


def main(argv: Sequence[str]) -> None:
  """Runs the benchmark."""
  del argv
  taken: dict[str, list[float]] = {}
  with tempfile.TemporaryDirectory() as folder:
    scratch = pathlib.Path(folder)
    entries, left_out = race.prepared(pairs.contestants(both_ways=True), scratch)
    for _ in range(FLAGS.repeats):
      for entry in entries:
        *_, most = race.alone(entry, ["run", "run", "memory"], scratch)
        taken.setdefault(entry.name, []).append(most["bytes"])
        race.say(f"{entry.name}: {most['bytes'] / GIB:.2f} GiB")
  medians = {name: statistics.median(amounts) for name, amounts in taken.items()}
  ours = medians[race.RECOMPUTING]
  rows = [[name, f"{most / GIB:.2f}", f"{ours / most:.2f}x"] for name, most in medians.items()]
  text = report.table(["", "most memory, GiB", "ours takes"], rows)
  text = "\n".join([text, *left_out])
  report.finish("memory", pairs.case(), text, {"bytes": taken, "left_out": left_out})


if __name__ == "__main__":
  app.run(main)
