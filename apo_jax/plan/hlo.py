"""The text of a compiled program (HLO), read into instructions: what `hlo_costs` counts.

The compiler's own cost analysis counts the body of a loop once, whatever its trip count, so the
text is the one place that says what a program does.
"""

import dataclasses
import functools
import math
import re

# One array type such as bf16[8,128]{1,0:T(8,128)(2,1)S(1)}; a size may be a bound, as in <=8.
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](\{[^}]*\})?")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"([a-z][\w\-]*)\(")
_NAME = re.compile(r"%([\w.\-]+)")
_COMMENT = re.compile(r"/\*.*?\*/")
_KERNEL_METADATA = re.compile(r"kernel_metadata=\{\n.*?\n\}", re.DOTALL)
_SPACE = re.compile(r"S\((\d+)\)")


@dataclasses.dataclass(frozen=True)
class Array:
  """An array's type.

  Attributes:
    dims: its sizes.
    bits: of one element; 0 for tokens.
    in_memory: it lies in the device's main memory, not in a cache, a register or on the host.
  """

  dims: tuple[int, ...]
  bits: int
  in_memory: bool

  @property
  def bytes(self) -> float:
    """Its size, without padding."""
    return math.prod(self.dims) * self.bits / 8

  @property
  def traffic(self) -> float:
    """The bytes that main memory moves to read or write it once."""
    return self.bytes if self.in_memory else 0.0


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One instruction: `name = arrays opcode(operands), attributes`.

  A tuple's arrays are in one flat list. `text` holds what stands between the parentheses: a
  parameter's number, for one.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  text: str
  attributes: str

  @property
  def bytes(self) -> float:
    """Size of its whole output."""
    return math.fsum(array.bytes for array in self.arrays)

  @property
  def traffic(self) -> float:
    """The bytes that main memory moves to read or write its whole output once."""
    return math.fsum(array.traffic for array in self.arrays)

  def attribute(self, name: str) -> str | None:
    """What stands behind `name=`: a word, or a group in braces or brackets."""
    found = re.search(rf"\b{name}=(\{{[^}}]*\}}+|\[[^ ]*|[^,\s]+)", self.attributes)
    return found and found[1]

  def numbers(self, name: str) -> tuple[int, ...]:
    """The numbers of the attribute `name={1,2}`; none where it is missing."""
    return tuple(map(int, re.findall(r"\d+", self.attribute(name) or "")))

  def called(self, name: str) -> str | None:
    """The computation that the attribute `name=%computation` names."""
    value = self.attribute(name)
    return value and value.removeprefix("%")


@dataclasses.dataclass(frozen=True)
class Computation:
  """A list of instructions by name, in the order of the text, and the one that gives the result."""

  name: str
  instructions: dict[str, Instruction]
  root: str

  @functools.cached_property
  def parameters(self) -> dict[int, str]:
    """The names of its parameters by their numbers."""
    listed = self.instructions.values()
    return {int(one.text): one.name for one in listed if one.opcode == "parameter"}

  @functools.cached_property
  def users(self) -> dict[str, list[Instruction]]:
    """The instructions that read each instruction's output."""
    found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
    for instruction in self.instructions.values():
      for name in dict.fromkeys(instruction.operands):
        found[name].append(instruction)
    return found


@dataclasses.dataclass(frozen=True)
class Module:
  """A compiled program.

  Attributes:
    computations: by name.
    entry: the name of the one that runs first.
  """

  computations: dict[str, Computation]
  entry: str


def parse(text: str) -> Module:
  """Reads a module as `Compiled.as_text()` prints it.

  Raises:
    ValueError: the text has no entry computation, so it is not a module.
  """
  computations: dict[str, Computation] = {}
  entry = None
  current: Computation | None = None
  for line in _whole_lines(text):
    if current is None:
      header = _COMPUTATION.fullmatch(line)
      if header:
        current = Computation(header[2], {}, "")
        entry = header[2] if header[1] else entry
    elif line.startswith("}"):
      computations[current.name] = current
      current = None
    else:
      instruction, is_root = _instruction(line)
      current.instructions[instruction.name] = instruction
      if is_root:
        current = dataclasses.replace(current, root=instruction.name)
  if entry is None:
    raise ValueError("the text has no ENTRY computation; it must be a compiled HLO module.")
  return Module(computations, entry)


def parse_arrays(text: str) -> tuple[Array, ...]:
  """The arrays of a type, in order."""
  return tuple(_array(*found) for found in _ARRAY.findall(text))


def _whole_lines(text: str) -> list[str]:
  """Lines without comments and indentation, an instruction each."""
  # What a Pallas kernel says of itself is printed on lines of its own.
  text = _KERNEL_METADATA.sub("kernel_metadata={}", text)
  return [_COMMENT.sub("", line).strip() for line in text.splitlines()]


def _array(kind: str, sizes: str, layout: str) -> Array:
  space = _SPACE.search(layout)
  dims = tuple(int(size.removeprefix("<=")) for size in sizes.split(",") if size)
  return Array(dims, _bits(kind), space is None or space[1] == "0")


def _bits(kind: str) -> int:
  """Bits of an element of type `kind`: bf16, s32, f8e4m3fn, pred, token."""
  if kind == "pred":
    return 8
  found = re.match(r"[a-z]+(\d+)", kind)
  return int(found[1]) if found else 0


def _instruction(line: str) -> tuple[Instruction, bool]:
  found = _INSTRUCTION.fullmatch(line)
  if found is None:
    raise ValueError(f"{line[:80]!r} is not an instruction of a compiled HLO module.")
  root, name, rest = found.groups()
  end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
  kind, rest = rest[:end], rest[end:].lstrip()
  opcode = _OPCODE.match(rest)
  if opcode is None:
    raise ValueError(f"{line[:80]!r} is not an instruction of a compiled HLO module.")
  close = _closing(rest, opcode.end() - 1)
  inside = rest[opcode.end() : close]
  operands = tuple(_NAME.findall(inside))
  attributes = rest[close + 1 :]
  return Instruction(
    name, opcode[1], parse_arrays(kind), operands, inside, attributes
  ), root is not None


def _closing(text: str, start: int) -> int:
  """Where the parenthesis that opens at `start` closes."""
  depth = 0
  for place in range(start, len(text)):
    depth += {"(": 1, ")": -1}.get(text[place], 0)
    if depth == 0:
      return place
  raise ValueError(f"{text[:80]!r} has a parenthesis that does not close.")
