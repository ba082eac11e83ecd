"""A model split once: a static graph definition and a plain nested dictionary of parameters."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Int

from apo_jax.config import ModelConfig
from apo_jax.models.decoder import Decoder
from apo_jax.models.reward_model import RewardModel
from apo_jax.sharding import partition

Parameters = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Definition:
  """What is static about a model.

  Attributes:
    build: makes the module with fresh parameters.
    graphdef: the module without its parameters.
    abstract: shapes, types and shardings of the parameters, a nested dictionary.
  """

  build: Callable[[nnx.Rngs], nnx.Module]
  graphdef: nnx.GraphDef
  abstract: Parameters

  @property
  def shardings(self) -> Any:
    """The sharding of every parameter."""
    return jax.tree.map(lambda leaf: leaf.sharding, self.abstract)

  def init(self, seed: int) -> Parameters:
    """Fresh parameters, created where they live: no device ever holds a whole copy."""
    return self._init(seed)

  @functools.cached_property
  def _init(self) -> Callable[[int], Parameters]:
    def create(seed: Int[Array, ""]) -> Parameters:
      rngs = nnx.Rngs(params=jax.random.key(seed))
      return nnx.to_pure_dict(nnx.state(self.build(rngs)))

    return jax.jit(create, out_shardings=self.shardings)

  def bind(self, parameters: Parameters) -> Any:
    """The module with these parameters; used inside jitted functions."""
    return nnx.merge(self.graphdef, parameters)


def _define(build: Callable[[nnx.Rngs], nnx.Module], mesh: Mesh) -> Definition:
  graphdef, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(params=0))))

  def describe(variable: nnx.Variable) -> jax.ShapeDtypeStruct:
    value = variable.get_value()
    sharding = NamedSharding(mesh, partition(variable.get_metadata()["axes"]))
    return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)

  described = jax.tree.map(describe, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
  return Definition(build, graphdef, nnx.to_pure_dict(described))


def define_policy(config: ModelConfig, vocab_size: int, mesh: Mesh) -> Definition:
  """The decoder with its language-model head."""
  return _define(lambda rngs: Decoder(config, vocab_size, rngs), mesh)


def define_reward_model(
  config: ModelConfig, vocab_size: int, pooling: str, mesh: Mesh
) -> Definition:
  """The decoder with a reward head."""
  return _define(lambda rngs: RewardModel(config, vocab_size, pooling, rngs), mesh)


def reward_parameters_from_policy(fresh: Parameters, policy: Parameters) -> Parameters:
  """A reward model that starts from a policy's trunk, with the fresh model's head."""
  return {"trunk": {name: policy[name] for name in fresh["trunk"]}, "head": fresh["head"]}
