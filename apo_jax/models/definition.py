"""A model split once: a static graph definition and a plain nested dictionary of parameters.

With adapters only they and the reward head are trained; the other parameters are frozen, in a type
of their own (`config.model.frozen_dtype`), and players that start from one checkpoint share them.
`Definition.split` takes the two apart, `join`
puts them together.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Int

from apo_jax.config.schema import LoraConfig
from apo_jax.devices.sharding import partition
from apo_jax.models import frozen
from apo_jax.models import lora as lora_adapters
from apo_jax.models.architecture import Architecture, on_platform
from apo_jax.models.decoder import Decoder
from apo_jax.models.parameters import Parameters
from apo_jax.models.reward_model import REWARD_HEAD, RewardModel


@dataclasses.dataclass(frozen=True, eq=False)
class Definition:
  """What is static about a model; equal to itself alone.

  Attributes:
    build: makes the module with fresh parameters.
    graphdef: the module without its parameters.
    abstract: shapes, types and shardings of the parameters, a nested dictionary.
    architecture: of its decoder.
    lora: its adapters; None where every parameter is trained.
  """

  build: Callable[[nnx.Rngs], nnx.Module]
  graphdef: nnx.GraphDef
  abstract: Parameters
  architecture: Architecture
  lora: LoraConfig | None

  @property
  def shardings(self) -> Any:
    """The sharding of every parameter."""
    return jax.tree.map(lambda leaf: leaf.sharding, self.abstract)

  @functools.cached_property
  def trained(self) -> Parameters:
    """`abstract`, of the trained parameters alone."""
    return self.split(self.abstract)[0]

  def init(self, seed: int) -> Parameters:
    """Fresh parameters, created where they live: no device ever holds a whole copy."""
    return self._init(seed)

  def init_part(self, seed: int, part: Callable[[Parameters], Any]) -> Any:
    """`part(init(seed))`, without making the other parameters."""
    return self._initializer(part)(seed)

  @functools.cached_property
  def _init(self) -> Callable[[int], Parameters]:
    return self._initializer(lambda parameters: parameters)

  def _initializer(self, part: Callable[[Parameters], Any]) -> Callable[[int], Any]:
    def create(seed: Int[Array, ""]) -> Any:
      rngs = nnx.Rngs(params=jax.random.key(seed))
      made = nnx.to_pure_dict(nnx.state(self.build(rngs)))
      if self.lora is not None:
        trained, kept = _divide(made)
        return part(join(trained, frozen.keep(kept, self.architecture.frozen_dtype)))
      return part(jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), made, self.abstract))

    return jax.jit(create, out_shardings=part(self.shardings))

  def bind(self, parameters: Parameters) -> Any:
    """The module with these parameters; used inside jitted functions."""
    return nnx.merge(self.graphdef, parameters)

  def split(self, parameters: Parameters) -> tuple[Parameters, Parameters]:
    """The trained and the frozen parameters; without adapters all are trained."""
    if self.lora is None:
      return parameters, {}
    return _divide(parameters)


def _divide(parameters: Parameters) -> tuple[Parameters, Parameters]:
  """The trained part of a nested dictionary, adapters and reward head, and the frozen rest."""
  trained, rest = {}, {}
  for name, value in parameters.items():
    if isinstance(value, dict):
      inner_trained, inner_rest = _divide(value)
      trained |= {name: inner_trained} if inner_trained else {}
      rest |= {name: inner_rest} if inner_rest else {}
    else:
      is_trained = name == REWARD_HEAD or name.startswith(lora_adapters.PREFIX)
      (trained if is_trained else rest)[name] = value
  return trained, rest


def join(trained: Parameters, rest: Parameters) -> Parameters:
  """The parameters that were split into these two."""
  joined = dict(rest)
  for name, value in trained.items():
    joined[name] = join(value, rest.get(name, {})) if isinstance(value, dict) else value
  return joined


def define_policy(
  architecture: Architecture, mesh: Mesh, lora: LoraConfig | None = None
) -> Definition:
  """The decoder with its language-model head; a `lora` of rank 0 counts as None."""
  lora, architecture = _used(lora), on_platform(architecture, _platform(mesh))
  return _define(lambda rngs: Decoder(architecture, rngs, lora=lora), architecture, mesh, lora)


def define_reward_model(
  architecture: Architecture,
  pooling: str,
  mesh: Mesh,
  lora: LoraConfig | None = None,
  *,
  language_head: bool = False,
) -> Definition:
  """The decoder with a reward head; a `lora` of rank 0 counts as None.

  With `language_head` it keeps its language-model head too, which is a parameter of its own where
  the embedding is not tied to it.
  """
  lora, architecture = _used(lora), on_platform(architecture, _platform(mesh))

  def build(rngs: nnx.Rngs) -> RewardModel:
    return RewardModel(architecture, pooling, rngs, lora=lora, language_head=language_head)

  return _define(build, architecture, mesh, lora)


def _platform(mesh: Mesh) -> str:
  return mesh.devices.flat[0].platform


def _used(lora: LoraConfig | None) -> LoraConfig | None:
  return lora if lora and lora.rank else None


def _define(
  build: Callable[[nnx.Rngs], nnx.Module],
  architecture: Architecture,
  mesh: Mesh,
  lora: LoraConfig | None,
) -> Definition:
  graphdef, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(params=0))))

  def describe(variable: nnx.Variable) -> jax.ShapeDtypeStruct:
    value = variable.get_value()
    sharding = NamedSharding(mesh, partition(variable.get_metadata()["axes"]))
    return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)

  described = jax.tree.map(describe, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
  abstract = nnx.to_pure_dict(described)
  if lora is None:
    abstract = _as_masters(abstract, architecture.master_dtype)
  else:
    trained, kept = _divide(abstract)
    abstract = join(trained, frozen.describe(kept, architecture.frozen_dtype))
  return Definition(build, graphdef, abstract, architecture, lora)


def _as_masters(abstract: Parameters, master_dtype: str) -> Parameters:
  """What is trained whole in its type: scales and the reward head are few, and stay float32."""

  def describe(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    name = path[-1].key
    dtype = leaf.dtype if name == REWARD_HEAD or name.endswith("norm") else master_dtype
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding)

  return jax.tree_util.tree_map_with_path(describe, abstract)


def merged(parameters: Parameters, lora: LoraConfig | None) -> Parameters:
  """A decoder's parameters with its adapters added into the weights."""
  if lora is None:
    return parameters
  return parameters | {"layers": lora_adapters.merge(parameters["layers"], lora)}


def trunk_of(policy: Parameters) -> Parameters:
  """A policy's parameters without its language-model head: what a reward model starts from."""
  return {name: value for name, value in policy.items() if name != "head"}
