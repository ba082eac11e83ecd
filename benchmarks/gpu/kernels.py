"""The kernels that a profiled run spent its time in, read from the profiler's own file."""

import collections
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

KEPT = 15


def profiled(run: Callable[[], Any]) -> dict[str, Any]:
  """What a call spent its time in; see `most_expensive`."""
  with tempfile.TemporaryDirectory() as folder:
    jax.profiler.start_trace(folder)
    try:
      run()
    finally:
      jax.profiler.stop_trace()
    return most_expensive(Path(folder))


def most_expensive(folder: Path) -> dict[str, Any]:
  """Of the newest profile under `folder`: time on the device, and the kernels that took most of it.

  Returns:
    `busy_ms`, the sum over all kernels; `span_ms`, from the first one's start to the last one's
    end, so that the difference is time in which the device had nothing to do; `kernels`, the `KEPT`
    most expensive, each with `name`, `op` (one of the programs' operations that it was), `calls`,
    `ms` and `share` of `busy_ms`.
  """
  files = sorted(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
  if not files:
    return {"busy_ms": 0.0, "span_ms": 0.0, "kernels": []}
  profile = jax.profiler.ProfileData.from_file(str(files[-1]))
  taken: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0])
  operations: dict[str, str] = {}
  first, last = float("inf"), 0.0
  for line in _lines(profile):
    for event in line.events:
      if event.duration_ns <= 0:
        continue
      taken[event.name][0] += event.duration_ns
      taken[event.name][1] += 1
      first, last = min(first, event.start_ns), max(last, event.start_ns + event.duration_ns)
      if event.name not in operations:
        operations[event.name] = _operation(event)
  busy = sum(nanoseconds for nanoseconds, _ in taken.values())
  ranked = sorted(taken.items(), key=lambda item: -item[1][0])[:KEPT]
  return {
    "busy_ms": busy / 1e6,
    "span_ms": max(last - first, 0.0) / 1e6,
    "kernels": [
      {
        "name": name[:160],
        "op": operations[name],
        "calls": calls,
        "ms": nanoseconds / 1e6,
        "share": nanoseconds / busy,
      }
      for name, (nanoseconds, calls) in ranked
    ],
  }


def _lines(profile: Any) -> list[Any]:
  """The streams of the device; on a CPU, the threads that compute."""
  planes = list(profile.planes)
  devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
  if devices:
    return [line for plane in devices for line in plane.lines if line.name.startswith("Stream")]
  return [
    line
    for plane in planes
    if plane.name.startswith("/host:CPU")
    for line in plane.lines
    if "xla" in line.name.lower()
  ]


def _operation(event: Any) -> str:
  try:
    stats = {name: value for name, value in event.stats}
  except (TypeError, ValueError):
    return ""
  for name in ("tf_op", "hlo_op", "name", "long_name"):
    if stats.get(name):
      return str(stats[name])[:160]
  return ""
