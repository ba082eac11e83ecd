"""How long a text a checkpoint was made for, as its config.json says in one way or another."""

import pytest

from apo_jax.models.hugging_face.positions import position_limit
from tests.models.hugging_face import cases


def scaled(kind, factor, **more):
  return {"rope_scaling": {"rope_type": kind, "factor": factor, **more}}


@pytest.mark.parametrize(
  ("config", "limit"),
  [
    ({"max_position_embeddings": 54}, 54),
    ({"n_positions": 1024}, 1024),
    ({}, 2048),  # what the class takes
    ({"max_position_embeddings": 54, "sliding_window": 16}, 54),
    ({"max_position_embeddings": 64} | scaled("linear", 4.0), 256),
    ({"max_position_embeddings": 64, "max_sequence_length": 300} | scaled("linear", 4.0), 300),
    ({"max_position_embeddings": 64, "rope_scaling": {"type": "linear", "factor": 2}}, 128),
    ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "default"}}, 64),
    ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "linear", "factor": 2}}, 128),
    ({"max_position_embeddings": 64} | scaled("dynamic", 2.0), 128),
    # Llama 3.1: what stands there is the stretched number.
    (
      {"max_position_embeddings": 131072}
      | scaled("llama3", 8.0, original_max_position_embeddings=8192),
      131072,
    ),
    (scaled("llama3", 8.0, original_max_position_embeddings=8192), 65536),
    (
      {"max_position_embeddings": 32768}
      | scaled("yarn", 4.0, original_max_position_embeddings=32768),
      131072,
    ),
    ({"max_position_embeddings": True}, 2048),
    ({"max_position_embeddings": None, "rope_scaling": None}, 2048),
  ],
)
def test_the_limit(config, limit):
  assert position_limit(config, "llama", 2048) == limit


def test_gemma_3_says_its_stretched_number():
  config = {"max_position_embeddings": 131072} | scaled("linear", 8.0)
  assert position_limit(config, "gemma3_text", None) == 131072


def test_a_checkpoint_has_its_limit(tmp_path):
  assert cases.read(cases.write(tmp_path, "llama3")).positions == 512
