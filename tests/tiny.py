"""One tiny game, whose shapes all tests share so that compilations are reused."""

import dataclasses
import functools
import importlib.util
import itertools
import os
from pathlib import Path
from types import ModuleType

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from apo_jax.config.base import section
from apo_jax.config.checks import from_config_dict
from apo_jax.config.schema import Config, MeshConfig, ShapeConfig
from apo_jax.data.tokens import Codec, make_codec, train_tokenizer
from apo_jax.data.toy import dialogues
from apo_jax.devices.sharding import make_mesh
from apo_jax.models.architecture import Architecture, architecture_from_shape
from apo_jax.models.definition import Definition, Parameters, define_policy

# What an update without adapters takes for their dropout and does not read.
NO_KEY = np.zeros(2, np.uint32)

ROOT = Path(__file__).resolve().parent.parent
TWIN_DEMO = ROOT / "tests" / "twin_demo.py"

OVERRIDES = {
  "rounds": 2,
  "model.shape.embed_dim": 32,
  "model.shape.heads": 4,
  "model.shape.kv_heads": 2,
  "model.shape.head_dim": 8,
  "model.shape.mlp_dim": 64,
  "tokenizer.vocab_size": 384,
  "data.num_demonstrations": 64,
  "data.num_preferences": 32,
  "data.num_golden": 16,
  "data.num_queries": 16,
  "data.num_test": 16,
  "supervised.epochs": 1,
  "supervised.batch_size": 16,
  "reward.base.epochs": 1,
  "reward.base.batch_size": 16,
  "reward.training.epochs": 1,
  "reward.training.batch_size": 8,
  "reward.preference_batch_size": 8,
  "policy.training.epochs": 1,
  "policy.training.batch_size": 8,
  "sampling.batch_size": 16,
  "evaluation.num_queries": 16,
  "evaluation.batch_size": 32,
  "checkpoints.every_steps": 2,
  "logging.every_steps": 1,
}

# What `testing_reward.shape` is where the judge has one of its own.
JUDGE = section(ShapeConfig(layers=1, embed_dim=16, heads=2, kv_heads=1, head_dim=8, mlp_dim=32))


def load_config_file(path: Path) -> ModuleType:
  """The module of a config file."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def config_dict(**overrides: object) -> ml_collections.ConfigDict:
  """The demo's config made tiny; overrides are dotted fields with `__` for a dot."""
  config = load_config_file(TWIN_DEMO).get_config()
  given = {name.replace("__", "."): value for name, value in overrides.items()}
  config.update_from_flattened_dict({**OVERRIDES, **given})
  return config


def config(**overrides: object) -> Config:
  """The same, validated."""
  return from_config_dict(config_dict(**overrides))


def flags(config_file: Path = TWIN_DEMO, **overrides: object) -> list[str]:
  """The same as command-line flags."""
  given = {name.replace("__", "."): value for name, value in overrides.items()}
  pairs = itertools.chain(OVERRIDES.items(), given.items())
  return [
    f"--config={config_file}",
    *(f"--config.{name}={value}" for name, value in dict(pairs).items()),
  ]


def mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> Mesh:
  """A mesh over the first devices."""
  count = data * fsdp * tensor
  return make_mesh(MeshConfig(data, fsdp, tensor), jax.devices()[:count])


def users_environment() -> dict[str, str]:
  """The environment without the tests' compiler settings, which are for tiny models."""
  return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


@functools.cache
def codec() -> Codec:
  """The codec of the tiny game, its tokenizer trained on the embedded data."""
  settings = config()
  data = dialogues.generate(
    0, num_demonstrations=300, num_preferences=50, num_golden=50, num_queries=50, num_test=50
  )
  texts = [text for record in data.demonstrations for text in (record.query, record.response)]
  tokenizer = train_tokenizer(texts, settings.tokenizer.vocab_size)
  return make_codec(tokenizer, settings, settings.tokenizer.vocab_size)


def architecture(**changes: object) -> Architecture:
  """The tiny game's decoder, with some fields changed."""
  settings = config()
  made = architecture_from_shape(settings.model, settings.tokenizer.vocab_size)
  return dataclasses.replace(made, **changes)


@functools.cache
def policy() -> tuple[Definition, Parameters]:
  """A policy with random weights for the codec's vocabulary, and its definition."""
  definition = define_policy(architecture(), mesh())
  return definition, definition.init(0)
