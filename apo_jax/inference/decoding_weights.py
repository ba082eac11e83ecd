"""A policy's weights as the sampler reads them: every step reads all of them, so they are made
small and near once a phase.

Weights come in the compute type, and they may be whole on every device (but for the mesh's tensor
axis) where training splits them. Adapters are added into float32 weights. Frozen weights of another
type are kept so because memory is short: the sampler reads them as they are, each layer's adapters
beside them, and has no copy of its own.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from apo_jax.devices.cpu import is_one_cpu
from apo_jax.models.cache import split_stack
from apo_jax.models.definition import Definition, define_policy, merged
from apo_jax.models.parameters import Parameters

LAYERS = "layers"


class DecodingWeights(NamedTuple):
  """What the sampler's functions take.

  Attributes:
    parameters: of `DecodingForm.definition`, the layers' but where they would be a second copy.
    stacks: the layers', in the form's number of stacks.
  """

  parameters: Parameters
  stacks: tuple[Parameters, ...]

  def whole(self) -> Parameters:
    """All parameters, the layers in one stack; to be used inside jitted functions."""
    if LAYERS in self.parameters:
      return self.parameters
    layers = jax.tree.map(lambda *parts: jnp.concatenate(parts), *self.stacks)
    return {**self.parameters, LAYERS: layers}


@dataclasses.dataclass(frozen=True)
class DecodingForm:
  """How a policy's weights lie while it is sampled.

  Attributes:
    trained: the policy as it is trained.
    definition: the policy as it is sampled.
    stacks: how many its layers lie in (`decoding_stacks`); of several, each is a copy.
  """

  trained: Definition
  definition: Definition
  stacks: int

  def __call__(self, parameters: Parameters) -> DecodingWeights:
    """The weights of a policy with these parameters, which are left as they are."""
    return self._convert(parameters) if self.changes else self._lay_out(parameters)

  @property
  def abstract(self) -> DecodingWeights:
    """Shapes, types and shardings of the weights."""
    shapes = jax.eval_shape(self._lay_out, self.definition.abstract)
    return jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
      shapes,
      self.shardings,
    )

  @property
  def shardings(self) -> DecodingWeights:
    """Of every array. Stacks are split over devices as the layers are: along none of the layers."""
    shardings = self.definition.shardings
    stacks = (shardings[LAYERS],) * self.stacks
    return DecodingWeights(self._beside_stacks(shardings), stacks)

  @property
  def changes(self) -> bool:
    """Whether the weights are not the trained parameters themselves."""
    return self.trained.abstract != self.definition.abstract

  @functools.cached_property
  def _convert(self) -> Any:
    def convert(parameters: Parameters) -> DecodingWeights:
      whole = parameters
      if self.definition.lora is None:
        whole = merged(parameters, self.trained.lora)
      return self._lay_out(
        jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), whole, self.definition.abstract)
      )

    return jax.jit(
      convert,
      in_shardings=(self.trained.shardings,),
      out_shardings=self.shardings,
    )

  def _lay_out(self, parameters: Parameters) -> DecodingWeights:
    layers = parameters[LAYERS]
    stacks = (layers,) if self.stacks == 1 else _split(layers, self.stacks)
    return DecodingWeights(self._beside_stacks(parameters), stacks)

  def _beside_stacks(self, parameters: Parameters) -> Parameters:
    """Where several stacks are all that is left of the layers, what is not in them."""
    if self.stacks == 1 or not self.changes:
      return parameters
    return {name: value for name, value in parameters.items() if name != LAYERS}


def decoding_form(policy: Definition, mesh: Mesh, *, gather: bool) -> DecodingForm:
  """The form for a mesh; with `gather` no weight is split along the mesh's fsdp axis."""
  architecture = policy.architecture
  as_trained = policy.lora is not None and architecture.frozen_dtype != "float32"
  definition = policy if as_trained else define_policy(architecture, mesh)

  def describe(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    # Normalisation computes in float32 and its scales are small.
    is_kept = as_trained or path[-1].key.endswith("norm")
    dtype = leaf.dtype if is_kept else architecture.compute_dtype
    sharding = _gathered(leaf.sharding) if gather else leaf.sharding
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

  abstract = jax.tree_util.tree_map_with_path(describe, definition.abstract)
  definition = dataclasses.replace(definition, abstract=abstract)
  stacks = 1 if as_trained else decoding_stacks(mesh, architecture.layers)
  return DecodingForm(policy, definition, stacks)


def decoding_stacks(mesh: Mesh, layers: int) -> int:
  """In how many stacks a decoder's layers lie while it is sampled: one, or one a layer.

  A scan over a stack copies each layer's weights out of it before it multiplies with them, which
  takes a GPU longer than the products of a step (docs/benchmarks.md), and one CPU as long
  (docs/cpu.md). With a stack a layer nothing is copied, and every layer is compiled.
  """
  is_gpu = mesh.devices.flat[0].platform == "gpu"
  return layers if is_gpu or is_one_cpu(mesh) else 1


def _gathered(sharding: NamedSharding) -> NamedSharding:
  axes = (None if axis == "fsdp" else axis for axis in sharding.spec)
  return NamedSharding(sharding.mesh, PartitionSpec(*axes))


# Compiled as one program, not a slice at a time.
_split = jax.jit(split_stack, static_argnums=1)
