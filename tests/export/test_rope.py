"""Rotary positions that transformers 4 and 5 read alike."""

import pytest
import transformers

from apo_jax.export.rope import with_both_ropes
from tests.models.hugging_face import cases


@pytest.mark.parametrize(
  ("model_type", "parameters", "old"),
  [
    (
      "llama",
      {"rope_type": "default", "rope_theta": 5e5},
      {"rope_theta": 5e5, "rope_scaling": None},
    ),
    (
      "llama",
      {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
      {"rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ),
    (
      "gemma3_text",
      {
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
      },
      {
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
      },
    ),
    (
      "olmo3",
      {
        "full_attention": {"rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
      },
      {"rope_theta": 5e5, "rope_scaling": {"rope_type": "yarn", "factor": 8.0}},
    ),
    (  # which version 4 cannot say
      "olmo3",
      {
        "full_attention": {"rope_type": "default", "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
      },
      {},
    ),
    (
      "phi3",
      {
        **{"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75},
        **{"short_factor": [1.0], "long_factor": [2.0], "original_max_position_embeddings": 64},
      },
      {
        **{"rope_theta": 1e4, "partial_rotary_factor": 0.75},
        "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
        "original_max_position_embeddings": 64,
      },
    ),
  ],
)
def test_the_new_spelling_gets_the_old_beside_it(model_type, parameters, old):
  given = {"model_type": model_type, "rope_parameters": parameters}
  assert with_both_ropes(given) == given | old


def test_the_old_spelling_is_kept():
  given = {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}}
  assert with_both_ropes(given) == given


@pytest.mark.parametrize("name", cases.POLICIES)
def test_both_spellings_are_one_decoder(tmp_path, name):
  """A checkpoint that version 5 has saved, with the old spelling beside its own."""
  old = cases.read(cases.write(tmp_path / "old", name))
  new = transformers.AutoConfig.from_pretrained(tmp_path / "old").to_dict()
  assert new["rope_parameters"]
  config = with_both_ropes(new)
  assert cases.read(cases.write(tmp_path / "new", name, config=config)).architecture == (
    old.architecture
  )
