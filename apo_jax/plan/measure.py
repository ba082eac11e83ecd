"""A program compiled, and what it needs: memory, FLOPs, traffic, and the least time it can take."""

import dataclasses
import re
import time

import jax
import numpy as np
from jaxtyping import Int

from apo_jax.plan.chips import Chip
from apo_jax.plan.hlo import parse
from apo_jax.plan.hlo_costs import Costs, program_costs
from apo_jax.plan.programs import Program

_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Of all memory, or of temporaries where these alone are too much.
_USED = re.compile(r"(?:Used |required for HLO temporaries \()([\d.]+)([BKMGT])")


@dataclasses.dataclass(frozen=True)
class Measured:
  """What one device needs for a program; sizes in bytes.

  Attributes:
    program: the program.
    arguments: of parameters, optimizer state and batch.
    temporaries: of all that lives while it runs.
    peak: of both, outputs included.
    costs: of one call. Where the compiler gave up for lack of memory, the peak alone is known and
      the others are None.
    compile_seconds: that tracing and compiling took.
  """

  program: Program
  arguments: float | None
  temporaries: float | None
  peak: float
  costs: Costs | None
  compile_seconds: float

  @property
  def needed(self) -> float:
    """Bytes that must fit: its peak, and the parameters that stay beside it."""
    return self.peak + self.program.kept


@dataclasses.dataclass(frozen=True)
class Roofline:
  """The least seconds that a call can take, by each of a chip's three rates, fully overlapped."""

  compute: float
  memory: float
  links: float

  @property
  def seconds(self) -> float:
    """The longest of them."""
    return max(self.compute, self.memory, self.links)

  @property
  def bound(self) -> str:
    """What bounds it: "compute", "memory" or "links"."""
    return max(("compute", "memory", "links"), key=lambda name: getattr(self, name))


def measure(program: Program, coordinates: Int[np.ndarray, "devices 3"]) -> Measured:
  """Compiles a program for the devices of the mesh that is set, which are at these `coordinates`.

  Raises:
    jax.errors.JaxRuntimeError: it cannot be compiled, for another reason than memory.
  """
  began = time.monotonic()
  lowered = program.lower()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    used = _USED.search(str(error))
    if used is None:
      raise
    peak = float(used[1]) * _UNITS[used[2]]
    return Measured(program, None, None, peak, None, time.monotonic() - began)
  seconds = time.monotonic() - began
  sizes = compiled.memory_analysis()
  arguments, temporaries = float(sizes.argument_size_in_bytes), float(sizes.temp_size_in_bytes)
  outputs = sizes.output_size_in_bytes - sizes.alias_size_in_bytes  # a donated state is both
  costs = program_costs(parse(compiled.as_text()), program.longest_loop, coordinates)
  return Measured(
    program, arguments, temporaries, arguments + outputs + temporaries, costs, seconds
  )


def roofline(costs: Costs, chip: Chip) -> Roofline:
  """The least time of a call with these costs, over the links of the axis that has most to send."""
  return Roofline(
    compute=costs.flops / chip.flops,
    memory=costs.bytes / chip.bandwidth,
    links=max(costs.along) / (chip.links / chip.axes),
  )
