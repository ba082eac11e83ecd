"""A plan as text: a table of the programs, and what a round takes."""

from apo_jax.config.schema import Config
from apo_jax.plan.advice import advice
from apo_jax.plan.chips import GIB
from apo_jax.plan.measure import Measured
from apo_jax.plan.planner import HOUR, Plan

_HEADINGS = (
  ("", "program"),
  ("calls", "a round"),
  ("argu-", "ments"),
  ("tempo-", "raries"),
  ("", "peak"),
  ("", "others"),
  ("", "TFLOP"),
  ("GB", "moved"),
  ("GB", "sent"),
  ("", "seconds"),
  ("", "bound by"),
  ("", "MFU"),
)


def render(plan: Plan, config: Config) -> str:
  """The table, with memory in GiB a device, work a call and device, and the roofline's times."""
  mesh = plan.mesh
  title = f"{plan.num_devices} × {plan.chip.name if plan.chip else plan.device_kind}"
  lines = [
    f"{title}, mesh data {mesh.data}, fsdp {mesh.fsdp}, tensor {mesh.tensor}."
    + (f" A chip has {plan.chip.memory / GIB:.2f} GiB." if plan.chip else ""),
    "Memory is GiB a device (others: parameters that stay beside the program); work is of one call"
    " on one device; seconds are the least a call can take.",
    "",
  ]
  rows = [_row(plan, measured) for measured in plan.measured]
  cells = [tuple(heading[0] for heading in _HEADINGS), tuple(one[1] for one in _HEADINGS), *rows]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines += [_line(row, widths) for row in cells]
  lines += ["", *_round(plan), *plan.assumptions]
  lines.append("Every row has its longest padded length and every response all its tokens.")
  return "\n".join([*lines, *advice(plan, config)])


def _row(plan: Plan, measured: Measured) -> tuple[str, ...]:
  costs, limit, mfu = measured.costs, plan.roofline(measured), plan.mfu(measured)
  return (
    measured.program.name,
    f"{measured.program.calls:,}",
    _number(measured.arguments, GIB),
    _number(measured.temporaries, GIB),
    _number(measured.peak, GIB) + ("" if plan.fits(measured) else "!"),
    _number(measured.program.kept, GIB),
    _number(costs and costs.flops, 1e12),
    _number(costs and costs.bytes, 1e9),
    _number(costs and costs.sent, 1e9),
    "-" if limit is None else f"{limit.seconds:.3g}",
    "-" if limit is None else limit.bound,
    "-" if mfu is None else f"{mfu:.0%}",
  )


def _number(value: float | None, unit: float) -> str:
  return "-" if value is None else f"{value / unit:.2f}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
  first, *others = zip(cells, widths, strict=True)
  return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _round(plan: Plan) -> list[str]:
  """What a round takes at least, in a sentence."""
  seconds, price = plan.round_seconds, plan.round_price
  if seconds is None:
    return []
  cost = "" if price is None else f" and ${price:,.2f} at ${plan.chip.price:.2f} a chip and hour"
  hours = f"{seconds / HOUR:.2f} hours" if seconds >= HOUR else f"{seconds / 60:.1f} minutes"
  return [f"A round takes at least {hours}{cost}."]
