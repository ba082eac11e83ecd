"""What a compiled program does on one device: FLOPs, memory traffic and bytes sent to others.

Loops count as often as they run, branches as their dearest. FLOPs are those of matrix products:
all else is bound by memory. Memory traffic is every kernel's inputs and outputs in main memory,
of which a slice counts as what it reads or writes. `collectives` counts what is sent.
"""

import dataclasses
import math
import operator
import re

import numpy as np
from jaxtyping import Int

from apo_jax.plan.collectives import AXES, is_collective, sent_along
from apo_jax.plan.hlo import Computation, Instruction, Module

# These move no data, or their data has been counted where they started.
_FREE = (
  "add-dependency",
  "after-all",
  "bitcast",
  "constant",
  "domain",
  "get-tuple-element",
  "iota",
  "opt-barrier",
  "parameter",
  "partition-id",
  "replica-id",
  "tuple",
)
# The second halves of what `…-start` began.
_ENDS = ("-done", "-update")
_SLICES = ("dynamic-slice", "slice", "gather")
# Matrix products of a block: of logits and values forwards, and in the two backward kernels, which
# compute the logits again, what their gradients take.
_SPLASH_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
_TRIPS = re.compile(r'"known_trip_count":\s*\{\s*"n":\s*"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Costs:
  """What one device does.

  Attributes:
    flops: of matrix products.
    bytes: of memory traffic.
    along: bytes sent to others along each axis of the torus that links them.
  """

  flops: float = 0.0
  bytes: float = 0.0
  along: tuple[float, ...] = (0.0,) * AXES

  @property
  def sent(self) -> float:
    """Bytes sent to others."""
    return math.fsum(self.along)

  def __add__(self, other: "Costs") -> "Costs":
    along = tuple(map(operator.add, self.along, other.along))
    return Costs(self.flops + other.flops, self.bytes + other.bytes, along)

  def __mul__(self, times: int) -> "Costs":
    along = tuple(sent * times for sent in self.along)
    return Costs(self.flops * times, self.bytes * times, along)


def program_costs(
  module: Module, unknown_trips: int, coordinates: Int[np.ndarray, "devices 3"]
) -> Costs:
  """The costs of one call of a program.

  Args:
    module: the compiled program.
    unknown_trips: how often a loop runs whose trip count depends on data, as sampling does that
      ends early.
    coordinates: where each device is in the torus, in the order of the program's mesh.
  """
  return _Counter(module, unknown_trips, coordinates).computation(module.entry)


class _Counter:
  """Walks a module's computations; each is counted once and remembered."""

  def __init__(self, module: Module, unknown_trips: int, coordinates: Int[np.ndarray, "devices 3"]):
    self._module = module
    self._unknown_trips = unknown_trips
    self._coordinates = coordinates
    self._known: dict[tuple[str, bool], Costs] = {}

  def computation(self, name: str, *, fused: bool = False) -> Costs:
    """The costs of a computation; those inside a fusion (`fused`) have no memory traffic."""
    key = (name, fused)
    if key not in self._known:
      computation = self._module.computations[name]
      total = Costs()
      for instruction in computation.instructions.values():
        total += self._instruction(computation, instruction, fused)
      if not fused:
        for costs in self._collectives(computation).values():
          total += costs
      self._known[key] = total
    return self._known[key]

  def _instruction(self, computation: Computation, one: Instruction, fused: bool) -> Costs:
    opcode = one.opcode
    if opcode == "while":
      body, condition = one.called("body"), one.called("condition")
      once = self.computation(body, fused=fused) + self.computation(condition, fused=fused)
      return once * self._trips(one)
    if opcode == "conditional":
      branches = [self.computation(name, fused=fused) for name in _branches(one)]
      return max(branches, key=lambda costs: (costs.flops, costs.bytes, costs.sent))
    if opcode in ("call", "async-start"):
      name = one.called("to_apply") or one.called("calls")
      return self.computation(name, fused=fused)
    if opcode == "fusion":
      inside = self.computation(one.called("calls"), fused=True)
      return inside + Costs(bytes=0.0 if fused else self._fusion_traffic(computation, one))
    if is_collective(one):
      return Costs()
    traffic = 0.0 if fused else _traffic(computation, one)
    return Costs(flops=_flops(computation, one), bytes=traffic)

  def _collectives(self, computation: Computation) -> dict[str, Costs]:
    """What a computation and its fusions send, by channel.

    TPUs spread a collective over several fusions, so that it goes on behind the products in them;
    each shows it as a whole, and one channel tells that it is the same.
    """
    found: dict[str, Costs] = {}
    for one in computation.instructions.values():
      inner: dict[str, Costs] = {}
      if is_collective(one):
        traffic = math.fsum(computation.instructions[name].traffic for name in one.operands)
        along = sent_along(computation, one, self._coordinates)
        channel = one.attribute("channel_id") or one.name
        inner = {channel: Costs(bytes=traffic + _new_traffic(computation, one), along=along)}
      elif one.opcode == "fusion":
        name = one.called("calls")
        inner = self._collectives(self._module.computations[name])
        if name.startswith("all-reduce-scatter"):
          # TPUs write a reduce-scatter as an all-reduce of which a slice is kept; it sends half.
          inner = {
            channel: dataclasses.replace(costs, along=tuple(sent / 2 for sent in costs.along))
            for channel, costs in inner.items()
          }
      for channel, costs in inner.items():
        known = found.get(channel, Costs())
        along = max(known, costs, key=lambda one: one.sent).along
        found[channel] = Costs(0.0, max(known.bytes, costs.bytes), along)
    return found

  def _trips(self, loop: Instruction) -> int:
    """How often a loop runs: as the compiler says, or as its condition's only limit does.

    A loop that the compiler unrolled, as of a product whose shards go round a ring, counts in twos.
    """
    found = _TRIPS.search(loop.attributes)
    if found:
      return int(found[1])
    condition = self._module.computations[loop.called("condition")]
    root = condition.instructions[condition.root]
    if root.opcode == "compare" and "direction=LT" in root.attributes:
      limits = [condition.instructions[name] for name in root.operands]
      constants = [int(one.text) for one in limits if one.opcode == "constant"]
      counters = [one.attribute("index") for one in limits if one.opcode == "get-tuple-element"]
      # What is computed from arrays is no counter: a loop may go on while some number is small.
      is_counted = not any(one.opcode in ("reduce", "fusion") for one in limits)
      if constants and is_counted:
        return -(-constants[0] // (self._stride(loop, int(counters[0])) if counters else 1))
    return self._unknown_trips

  def _stride(self, loop: Instruction, counter: int) -> int:
    """What a loop's body adds to the counter that stands at this place of its tuple."""
    body = self._module.computations[loop.called("body")]
    root = body.instructions[body.root]
    if root.opcode == "tuple":
      new = body.instructions[root.operands[counter]]
      added = [body.instructions[name] for name in new.operands]
      constants = [int(one.text) for one in added if one.opcode == "constant"]
      if new.opcode == "add" and constants:
        return constants[0]
    return 1

  def _fusion_traffic(self, computation: Computation, fusion: Instruction) -> float:
    fused = self._module.computations[fusion.called("calls")]
    read = 0.0
    for number, name in enumerate(fusion.operands):
      operand = computation.instructions[name]
      if operand.traffic:
        read += min(self._read(fused, fused.parameters[number]), operand.traffic)
    written = self._written(fused, fused.root)
    return read + min(written, fusion.traffic)

  def _read(self, fused: Computation, name: str) -> float:
    """Bytes that a fused computation reads of `name`, which comes from outside."""
    total = 0.0
    for user in fused.users[name]:
      if user.opcode in _SLICES and user.operands[0] == name:
        total += user.bytes
      elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
        continue  # written in place
      elif user.opcode == "tuple" or is_collective(user):
        continue  # handed through, or counted with the collectives
      elif user.opcode == "bitcast":
        total += self._read(fused, user.name)
      elif user.opcode == "fusion":
        inner = self._module.computations[user.called("calls")]
        places = [place for place, given in enumerate(user.operands) if given == name]
        total += sum(self._read(inner, inner.parameters[place]) for place in places)
      else:
        return fused.instructions[name].bytes
    return total

  def _written(self, fused: Computation, name: str) -> float:
    """Bytes that a fused computation writes of its result `name`."""
    one = fused.instructions[name]
    if one.opcode == "parameter" or is_collective(one):
      return 0.0  # handed through, or counted with the collectives
    if one.opcode == "tuple":
      return math.fsum(self._written(fused, part) for part in one.operands)
    if one.opcode == "bitcast":
      return self._written(fused, one.operands[0])
    if one.opcode == "dynamic-update-slice":
      return fused.instructions[one.operands[1]].bytes
    if one.opcode == "fusion":
      inner = self._module.computations[one.called("calls")]
      return self._written(inner, inner.root)
    return one.bytes


def _branches(conditional: Instruction) -> list[str]:
  """The names of a conditional's computations."""
  listed = conditional.attribute("branch_computations")
  if listed:
    return re.findall(r"%?([\w.\-]+)", listed.strip("{}"))
  return [conditional.called("true_computation"), conditional.called("false_computation")]


def _traffic(computation: Computation, one: Instruction) -> float:
  """Memory traffic of an instruction that is no fusion."""
  if one.opcode in _FREE or one.opcode.endswith(_ENDS):
    return 0.0
  operands = [computation.instructions[name] for name in one.operands]
  if one.opcode in _SLICES:
    read = one.bytes if operands[0].traffic else 0.0
    return read + one.traffic
  if one.opcode == "dynamic-update-slice":
    update = operands[1]
    return update.traffic + (update.bytes if one.traffic else 0.0)
  return math.fsum(operand.traffic for operand in operands) + _new_traffic(computation, one)


def _new_traffic(computation: Computation, one: Instruction) -> float:
  """Memory traffic of an instruction's output; that of `…-start` names its input again."""
  if not one.opcode.endswith("-start"):
    return one.traffic
  inputs = {array for name in one.operands for array in computation.instructions[name].arrays}
  return math.fsum(array.traffic for array in one.arrays if array not in inputs)


def _flops(computation: Computation, one: Instruction) -> float:
  if one.opcode == "dot":
    left = computation.instructions[one.operands[0]].arrays[0].dims
    contracted = math.prod(left[axis] for axis in one.numbers("lhs_contracting_dims"))
    return 2.0 * math.prod(one.arrays[0].dims) * contracted
  if one.opcode == "convolution":
    left, right = (computation.instructions[name].arrays[0].dims for name in one.operands)
    return convolution_flops(left, right, one.arrays[0].dims, one.attributes)
  if one.opcode == "custom-call":
    return _splash_flops(computation, one) or _library_flops(computation, one)
  return 0.0


def _splash_flops(computation: Computation, one: Instruction) -> float:
  """FLOPs of the splash kernels, at most: causal masks leave out the blocks above the diagonal."""
  found = re.match(r"splash_mha_(fwd|dq|dkv)", one.name)
  if found is None:
    return 0.0
  block_mask, queries = (computation.instructions[one.operands[place]] for place in (0, 3))
  *rows_and_heads, slots, head_dim = queries.arrays[0].dims
  blocks = block_mask.arrays[0].dims[-2]
  share = (blocks + 1) / (2 * blocks)
  product = 2.0 * math.prod(rows_and_heads) * slots**2 * head_dim * share
  return product * _SPLASH_PRODUCTS[found[1]]


def _library_flops(computation: Computation, one: Instruction) -> float:
  """FLOPs of a matrix product that a library computes (cuBLAS); its dimensions are in JSON."""
  found = re.search(r'"lhs_contracting_dimensions":\[([\d",]*)\]', one.attributes)
  if found is None:
    return 0.0
  left = computation.instructions[one.operands[0]].arrays[0].dims
  contracted = math.prod(left[int(axis)] for axis in re.findall(r"\d+", found[1]))
  return 2.0 * math.prod(one.arrays[0].dims) * contracted


def convolution_flops(
  left: tuple[int, ...], right: tuple[int, ...], output: tuple[int, ...], attributes: str
) -> float:
  """FLOPs of a convolution, as which TPUs write matrix products; padding costs nothing.

  Args:
    left, right, output: the sizes of the arrays.
    attributes: of the instruction; `dim_labels=0bf_0io->0bf` says what the axes are, and
      `window={size=… stride=… pad=… lhs_dilate=… rhs_dilate=…}` how the kernel moves.
  """
  left_labels, right_labels, output_labels = re.split(
    r"_|->", re.search(r"dim_labels=([\w>\-]+)", attributes)[1]
  )
  groups = re.search(r"batch_group_count=(\d+)", attributes)
  pairs = output[output_labels.index("b")] * output[output_labels.index("f")]
  flops = 2.0 * pairs * right[right_labels.index("i")] / (int(groups[1]) if groups else 1)
  window = re.search(r"window=\{([^}]*)\}", attributes)
  fields = dict(part.split("=") for part in window[1].split()) if window else {}
  for axis in sorted(set(output_labels) - {"b", "f"}):
    place = int(axis)

    def number(name: str, place: int = place) -> int:
      return int(fields[name].split("x")[place]) if name in fields else 1

    padding = fields["pad"].split("x")[place].split("_")[0] if "pad" in fields else "0"
    flops *= _valid_places(
      left[left_labels.index(axis)],
      right[right_labels.index(axis)],
      output[output_labels.index(axis)],
      number("stride"),
      int(padding),
      number("lhs_dilate"),
      number("rhs_dilate"),
    )
  return flops


def _valid_places(
  left: int, kernel: int, output: int, stride: int, padding: int, dilate: int, kernel_dilate: int
) -> int:
  """Pairs of an output's and a kernel's place, along one axis, that read a real input."""
  places = np.arange(output) * stride - padding
  taps = np.arange(kernel) * kernel_dilate
  few, many = sorted((places, taps), key=len)
  valid = 0
  for offset in few:
    positions = many + offset
    inside = (positions >= 0) & (positions < left * dilate)
    valid += int(np.sum(inside & (positions % dilate == 0)))
  return valid
