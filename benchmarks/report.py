"""What a benchmark prints and writes: one table, one JSON file."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import settings
from benchmarks.race import Result
from benchmarks.work import Work, limit_seconds


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Columns as wide as they have to be; the first is text, the others are numbers."""
  lines = [list(headings), *map(list, rows)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(
      [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
    ).rstrip()
    for line in lines
  )


def comparison(
  result: Result, works: Mapping[str, Work], *, tokens: int | None = None, loss: bool = False
) -> str:
  """A race as a table, its limit and who was left out; the first contestant is ours.

  Args:
    result: of the race.
    works: by contestant, what it had to do.
    tokens: sampled in a run, where tokens/s are wanted.
    loss: show the loss of the first timed run, equal where the work and the weights are.
  """
  headings = ["", "first run s", "median s", "least s", "most s"]
  headings += ["tokens/s"] if tokens else []
  headings += ["GFLOP/s", "of the limit", "to the first"]
  headings += ["loss"] if loss else []
  ours = next(iter(result.runs.values())).median
  rows = []
  for name, runs in result.runs.items():
    seconds = [run["seconds"] for run in runs.timed]
    work = works[name]
    row = [name, f"{runs.warm_ups[0]['seconds']:.2f}", f"{runs.median:.3f}"]
    row += [f"{min(seconds):.3f}", f"{max(seconds):.3f}"]
    row += [f"{tokens / runs.median:.1f}"] if tokens else []
    row += [f"{work.flops / runs.median / 1e9:.1f}"]
    row += [f"{limit_seconds(work, result.machine) / runs.median:.0%}"]
    row += [f"{runs.median / ours:.2f}x"]
    row += [f"{runs.timed[0]['loss']:.5f}"] if loss else []
    rows.append(row)
  return "\n".join([table(headings, rows), "", limits_line(result), *result.left_out])


def limits_line(result: Result) -> str:
  """What the machine reached, and how much that changed from run to run."""

  def reached(name: str, median: float) -> str:
    every = [one[name] / 1e9 for limits in result.limits.values() for one in limits]
    return f"{median / 1e9:.1f} ({min(every):.1f} to {max(every):.1f})"

  machine = result.machine
  return (
    "The machine's own limit, measured before each run:"
    f" {reached('flops', machine.flops)} GFLOP/s in matrix products,"
    f" {reached('bandwidth', machine.bandwidth)} GB/s copied. GFLOP/s above count the work that has"
    " to be done (benchmarks/work.py)."
  )


def as_json(result: Result, works: Mapping[str, Work]) -> dict[str, Any]:
  """A race as JSON."""
  return {
    "machine": result.machine._asdict(),
    "limits": result.limits,
    "left_out": result.left_out,
    "contestants": {
      name: {
        **runs._asdict(),
        "median_seconds": runs.median,
        "work": works[name]._asdict(),
        "limit_seconds": limit_seconds(works[name], result.machine),
      }
      for name, runs in result.runs.items()
    },
  }


def finish(benchmark: str, case: Mapping[str, Any], text: str, content: Mapping[str, Any]) -> None:
  """Prints the table; writes it as JSON with all that it depends on, and says where."""
  path = settings.output(benchmark)
  path.parent.mkdir(parents=True, exist_ok=True)
  conditions = {"case": case, "model": settings.model(), "surroundings": settings.surroundings()}
  whole = {"benchmark": benchmark, **conditions, **content}
  path.write_text(json.dumps(whole, indent=2) + "\n")
  print(f"\n{text}\nWritten to {path}.")
