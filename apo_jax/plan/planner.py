"""The plan of a round: every program compiled and measured, its least time and its price."""

import dataclasses
from collections.abc import Callable, Sequence

import jax

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config, MeshConfig
from apo_jax.devices.checks import check_attention, check_mesh, resolve_mesh
from apo_jax.devices.sharding import make_mesh, tpu_slices
from apo_jax.plan.chips import CHIPS, Chip
from apo_jax.plan.descriptions import describe_codec, read_described
from apo_jax.plan.devices import find_devices, torus_coordinates
from apo_jax.plan.measure import Measured, Roofline, measure, roofline
from apo_jax.plan.programs import Program, programs
from apo_jax.plan.round_work import round_work
from apo_jax.run.language_head import check_language_heads
from apo_jax.run.models import make_models
from apo_jax.run.origins import find_origins
from apo_jax.run.positions import check_positions

HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Plan:
  """A round on some devices.

  Attributes:
    mesh: of the devices.
    device_kind: what JAX calls one.
    chip: what it can do; None where that is not known, as of a CPU, and then nothing is timed.
    measured: the programs of a round.
    whole: these are all of them.
    assumptions: what had to be assumed, in sentences.
  """

  mesh: MeshConfig
  device_kind: str
  chip: Chip | None
  measured: tuple[Measured, ...]
  whole: bool
  assumptions: tuple[str, ...]

  @property
  def num_devices(self) -> int:
    """How many there are."""
    return self.mesh.data * self.mesh.fsdp * self.mesh.tensor

  def roofline(self, measured: Measured) -> Roofline | None:
    """The least time of one call; None where it is not known."""
    if self.chip is None or measured.costs is None:
      return None
    return roofline(measured.costs, self.chip)

  def mfu(self, measured: Measured) -> float | None:
    """The share of peak FLOP/s that the roofline allows, of the FLOPs that the model asks for."""
    limit = self.roofline(measured)
    if limit is None:
      return None
    return measured.program.flops / (self.num_devices * self.chip.flops * limit.seconds)

  def fits(self, measured: Measured) -> bool:
    """Whether a program fits into a device's memory; True where that is not known."""
    if self.chip is None:
      return True
    return measured.costs is not None and measured.needed <= self.chip.memory

  @property
  def round_seconds(self) -> float | None:
    """The least time of all calls of a round; None where one is not known."""
    if not self.whole:
      return None
    total = 0.0
    for measured in self.measured:
      limit = self.roofline(measured)
      if limit is None:
        return None
      total += limit.seconds * measured.program.calls
    return total

  @property
  def round_price(self) -> float | None:
    """US dollars of a round; None where its time or the chip's price is not known."""
    seconds = self.round_seconds
    if seconds is None or self.chip.price is None:
      return None
    return seconds / HOUR * self.num_devices * self.chip.price


def make_plan(
  config: Config,
  topology: str,
  only: Sequence[str] = (),
  on_program: Callable[[Measured], None] = lambda measured: None,
  on_start: Callable[[str, int, int], None] = lambda name, number, of: None,
) -> Plan:
  """Compiles the programs of a round for the devices of `topology` (`devices.find_devices`).

  Args:
    config: the run.
    topology: the devices.
    only: the names of the programs to compile; by default all.
    on_program: hears of each when it is compiled.
    on_start: hears of each before that, which takes a while: its name, its number from 1, and how
      many there are.

  Raises:
    ConfigError: the config does not fit the devices, or they, its checkpoint or a name in `only`
      are not known.
  """
  origins = find_origins(config, read_described)
  devices = find_devices(topology)
  sizes = resolve_mesh(config, len(devices), tpu_slices(devices))
  check_attention(config, devices[0].platform)
  check_mesh(config, origins.split_sizes(), sizes)
  check_positions(config, origins)
  check_language_heads(config, origins)
  work = round_work(config)
  mesh = make_mesh(sizes, devices)
  measured, coordinates = [], torus_coordinates(mesh)
  # Abstract, as nothing can run on devices that are not there.
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    models, codec = make_models(config, origins, mesh), describe_codec(config, origins.policy)
    chosen = _chosen(programs(config, models, codec, work), only)
    for number, program in enumerate(chosen, start=1):
      on_start(program.name, number, len(chosen))
      measured.append(measure(program, coordinates))
      on_program(measured[-1])
  kind = devices[0].device_kind
  return Plan(sizes, kind, CHIPS.get(kind), tuple(measured), not only, work.assumptions)


def _chosen(listed: list[Program], only: Sequence[str]) -> list[Program]:
  names = [program.name for program in listed]
  for name in only:
    if name not in names:
      raise ConfigError(f"--only has {name!r}; a round of this config has {', '.join(names)}.")
  return [program for program in listed if not only or program.name in only]
