"""The check's results as text: a line an entry, then the targets."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gpu.entries import ROUND_STAGES

GIB = 2.0**30
HEADINGS = ("", "what", "state", "first s", "median s", "TFLOP/s", "of peak", "GB/s", "of peak")
HEADINGS += ("of measured", "peak GiB", "wall s", "note")
NOTE = 90  # characters
ROUNDS = ("SmolLM2, a round", "SmolLM2, the stages by PyTorch")


def text(rows: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> str:
  """All rows; `limits` are the best measured of `flops` and `bandwidth`, where they are."""
  lines = [list(HEADINGS), *(_line(row, limits) for row in rows)]
  widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
  left = (0, 1, 2, len(HEADINGS) - 1)
  table = "\n".join(
    "  ".join(
      cell.ljust(width) if column in left else cell.rjust(width)
      for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )
  return (
    "\n".join(
      [*_about(rows), table, "", *targets(rows), *_stages(rows), *_kernels(rows), *_said(rows)]
    )
    + "\n"
  )


def targets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """What is aimed at on one H100, and what was reached; a line says where a number is missing."""
  by_name = {row["name"]: row for row in rows}

  def share(name: str, amount: str, peak: str) -> float | None:
    row = by_name.get(name, {})
    if not row.get("median") or not row.get(peak):
      return None
    return row[amount] / row["median"] / row[peak]

  def ratio(name: str, *peers: str) -> float | None:
    ours = by_name.get(name, {}).get("median")
    times = [by_name[peer]["median"] for peer in peers if by_name.get(peer, {}).get("median")]
    return min(times) / ours if ours and times else None

  plain = ("DPO step, PyTorch", "DPO step, PyTorch, in halves", "DPO step, TRL")
  wanted = (
    ("DPO step at 1B: MFU", 0.45, share("DPO step", "flops", "peak_flops")),
    ("reward step at 1B: MFU", 0.45, share("reward step", "flops", "peak_flops")),
    ("DPO step: times as fast as the fastest peer", 1.5, ratio("DPO step", *plain)),
    ("sampling: share of memory bandwidth", 0.6, share("sampling", "bytes", "peak_bandwidth")),
    ("sampling: times as fast as generate", 3.0, ratio("sampling", "sampling, generate")),
    ("a SmolLM2 round's five stages: times as fast as PyTorch's", 5.0, _stages_ratio(by_name)),
  )
  return ["Targets:"] + [
    f"  {what}: {'no number' if got is None else f'{got:.2f}'}, wanted {least:g}"
    + ("" if got is None else f": {'reached' if got >= least else 'MISSED'}")
    for what, least, got in wanted
  ]


def _stages_ratio(by_name: Mapping[str, Mapping[str, Any]]) -> float | None:
  """How many times as long the peer's stages take as ours, where all of both are known."""
  ours, theirs = (by_name.get(name, {}).get("phases", {}) for name in ROUNDS)
  if not ours.keys() == theirs.keys() == set(ROUND_STAGES):
    return None
  return sum(theirs.values()) / sum(ours.values())


def _stages(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The seconds of every round's stages, those in which a program is compiled included."""
  return [
    f"\n{row['name']}: "
    + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in row["phases"].items())
    for row in rows
    if row.get("phases")
  ]


def _line(row: Mapping[str, Any], limits: Mapping[str, float]) -> list[str]:
  median = row.get("median")

  def rate(amount: str) -> float | None:
    return row[amount] / median if median and amount in row else None

  def share(amount: str, peak: float | None) -> str:
    found = rate(amount)
    return f"{found / peak:.0%}" if found and peak else ""

  def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)

  flops, moved = rate("flops"), rate("bytes")
  measured = ""
  if flops and limits:
    least = max(row["flops"] / limits["flops"], row["bytes"] / limits["bandwidth"])
    measured = f"{least / median:.0%}"
  if "limits" in row:
    flops, moved = row["limits"]["flops"], row["limits"]["bandwidth"]
  peak = row.get("peak_bytes")
  return [
    row["stage"],
    row["name"],
    row["state"],
    number(row.get("first"), ".2f"),
    number(median, ".4f"),
    number(flops and flops / 1e12, ".2f"),
    share("flops", row.get("peak_flops")),
    number(moved and moved / 1e9, ".0f"),
    share("bytes", row.get("peak_bandwidth")),
    measured,
    number(peak and peak / GIB, ".2f"),
    number(row.get("wall"), ".1f"),
    _note(row)[:NOTE],
  ]


def _note(row: Mapping[str, Any]) -> str:
  parts = []
  if row.get("median") and "tokens" in row:
    parts.append(f"{row['tokens'] / row['median']:.0f} tokens/s")
  if "loss" in row:
    parts.append(f"loss {row['loss']:.5f}")
  if "held_bytes" in row:
    parts.append(f"{row['held_bytes'] / GIB:.2f} GiB before the first run")
  if row.get("note"):
    parts.append(row["note"])
  return ", ".join(parts)


def _about(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  for row in rows:
    if "versions" in row:
      versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
      return [f"{row['device']} ({row['platform']}); {row.get('smi', '')}", versions, ""]
  return []


def _kernels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  lines = []
  for row in rows:
    found = row.get("kernels")
    if found and found["kernels"]:
      lines.append(f"\n{row['name']}: kernels {found['busy_ms']:.2f} of {found['span_ms']:.2f} ms")
      lines += [
        f"  {one['share']:5.1%} {one['ms']:9.3f} ms {one['calls']:6d} x {one['name'][:70]}"
        f"  {one['op'][-60:]}"
        for one in found["kernels"]
      ]
  return lines


def _said(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The last lines of what failed."""
  lines = []
  for row in rows:
    if row["state"] in ("failed", "timed out") and row.get("said"):
      lines += ["", f"{row['name']} ({row['state']}), the last that it said:"]
      lines += [f"  {line[:200]}" for line in row["said"]]
  return lines
