"""What a config.json says of its family: used, harmless, said or refused; and published shapes."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
import transformers
from absl import logging
from safetensors.numpy import load_file, save_file

from apo_jax.config.fields import ConfigError
from apo_jax.config.lengths import judged_length
from apo_jax.models.architecture import LayerKind, Rope
from apo_jax.models.attention import rope_frequencies
from apo_jax.models.definition import define_policy
from apo_jax.models.hugging_face import fields
from apo_jax.models.hugging_face.config import MIXTURES
from apo_jax.models.hugging_face.importing import import_decoder
from apo_jax.models.hugging_face.names import FAMILIES, tensor_names
from apo_jax.run.origins import find_origins
from apo_jax.run.positions import check_positions
from tests import tiny
from tests.models.hugging_face import cases

PUBLISHED = json.loads((cases.GOLDEN / "published.json").read_text())["models"]
SLIDING = "sliding_attention"
ROPES = json.loads((cases.GOLDEN / "rope.json").read_text())["ropes"]


def read_config(directory, config):
  """The checkpoint of a config.json without weights."""
  directory.mkdir(exist_ok=True)
  (directory / "config.json").write_text(json.dumps(config))
  return cases.read(directory)


def read_case(directory, name, **changed):
  return read_config(directory, cases.golden(name)["config"] | changed)


@pytest.fixture
def said(monkeypatch) -> list[str]:
  """What is warned of."""
  texts: list[str] = []
  fields._say.cache_clear()
  monkeypatch.setattr(logging, "warning", lambda form, *given: texts.append(form % given))
  return texts


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_as_many_parameters(tmp_path, said, name):
  checkpoint = read_config(tmp_path, PUBLISHED[name]["config"])
  architecture = checkpoint.architecture
  counted = sum(
    math.prod(one.theirs) * (architecture.layers if one.stacked else 1)
    for one in tensor_names(architecture, checkpoint.family)
  )
  assert counted == PUBLISHED[name]["parameters"]
  assert not said


def test_what_published_models_say_of_positions(tmp_path):
  def kinds(name):
    return read_config(tmp_path, PUBLISHED[name]["config"]).architecture.kinds

  stretched = Rope(5e5, "llama3", 32.0, 1.0, 4.0, 8192)
  assert set(kinds("meta-llama/Llama-3.2-1B")) == {LayerKind(stretched)}
  assert set(kinds("microsoft/Phi-3-mini-4k-instruct")) == {LayerKind(Rope(1e4), 2047)}
  olmo = kinds("allenai/Olmo-3-7B-Instruct")
  yarn = Rope(5e5, "yarn", 8.0, 1.0, 32.0, 8192, amplitude=1.2079441541679836)
  assert olmo == ((LayerKind(Rope(5e5), 4096),) * 3 + (LayerKind(yarn),)) * 8
  gemma = kinds("google/gemma-3-4b-it")
  assert [kind.window for kind in gemma] == ([1024] * 5 + [0]) * 5 + [1024] * 4
  assert {kind.rope for kind in gemma} == {Rope(1e4), Rope(1e6, "linear", 8.0)}
  phi = read_config(tmp_path, PUBLISHED["microsoft/Phi-4-mini-instruct"]["config"]).architecture
  assert (phi.head_dim, phi.rotary_dim, phi.longest_row) == (128, 96, 4096)
  (kind,) = set(phi.kinds)
  assert kind.rope.amplitude == pytest.approx(math.sqrt(1 + math.log(32) / math.log(4096)))


@pytest.mark.parametrize("name", ROPES)
def test_frequencies_are_those_of_transformers(tmp_path, name):
  case = ROPES[name]
  config = {
    "rope_parameters": case["rope_parameters"],
    "hidden_size": 64,
    "max_position_embeddings": 4096,
  }
  (kind,) = set(read_case(tmp_path, "llama", **config).architecture.kinds)
  np.testing.assert_allclose(rope_frequencies(kind.rope, 16), case["frequencies"], rtol=1e-5)
  assert kind.rope.amplitude == pytest.approx(case["amplitude"], rel=1e-6)


@pytest.mark.parametrize("name", (*cases.POLICIES, cases.REWARD))
def test_a_config_that_transformers_has_saved_says_the_same(tmp_path, said, name):
  given = cases.golden(name)["config"]
  config_class = transformers.CONFIG_MAPPING[given["model_type"]]
  saved = config_class.from_dict(json.loads(json.dumps(given))).to_dict()
  ours = read_case(tmp_path, name).architecture
  assert read_config(tmp_path, json.loads(json.dumps(saved))).architecture == ours
  assert not said


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_of_the_library_is_read_or_harmless(family):
  declared = {one.name for one in dataclasses.fields(transformers.CONFIG_MAPPING[family])}
  base = {"chunk_size_feed_forward", "is_encoder_decoder"}  # must be as the class sets them
  unknown = {n for n in declared - fields.READ - base if not fields._HARMLESS.fullmatch(n)}
  assert not unknown


@pytest.mark.parametrize("family", [*MIXTURES[:3], "mixtral", "gpt_oss", "qwen3_moe", "olmoe"])
def test_mixtures_of_experts_are_refused_by_name(tmp_path, family):
  with pytest.raises(
    ConfigError, match=rf"model_type '{family}', a mixture of experts.*granite, gemma3\.$"
  ):
    read_config(tmp_path, {"model_type": family})


@pytest.mark.parametrize(
  ("case", "config", "message"),
  [
    # Of other decoders.
    ("llama", {"clip_qkv": 8.0}, "clip_qkv 8.0, which a llama .* does not read"),
    ("llama", {"num_local_experts": 8}, "num_local_experts 8, which a llama"),
    ("llama", {"sliding_window": 4096}, "sliding_window 4096, which a llama"),
    ("llama", {"residual_multiplier": 0.22}, "residual_multiplier 0.22, which a llama"),
    ("llama", {"qk_norm": True}, "qk_norm True, which a llama"),
    ("llama", {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0, which a llama"),
    ("llama", {"no_rope_layers": [1, 0, 1, 0]}, r"no_rope_layers \[1, 0, 1, 0\], which a llama"),
    ("qwen3", {"rope_local_base_freq": 1e4}, "rope_local_base_freq 10000.0, which a qwen3"),
    ("olmo2", {"norm_eps": 1e-6}, "norm_eps 1e-06, which a olmo2"),
    ("gemma2", {"hidden_act": "gelu"}, "hidden_act 'gelu', which a gemma2"),
    # Of the class, but not computed.
    ("llama", {"is_encoder_decoder": True}, "is_encoder_decoder True; supported: False"),
    ("granite", {"mlp_bias": True}, "mlp_bias True; supported: false"),
    ("olmo3", {"attention_bias": True}, "attention_bias True; supported: false"),
    (
      "gemma3_text",
      {"attn_logit_softcapping": 50.0},
      "attn_logit_softcapping 50.0; supported: null",
    ),
    ("mistral", {"layer_types": ["full_attention"] * 4}, "of a mistral sliding_attention alone"),
    (
      "qwen2",
      {"use_sliding_window": False, "layer_types": ["sliding_attention"] * 4},
      "sliding_window None; supported: a number of positions above 0",
    ),
    ("granite", {"residual_multiplier": 0.0}, "residual_multiplier 0.0; supported: a number from"),
    # Positions.
    (
      "llama",
      {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
      "rope_type 'dynamic'; supported",
    ),
    (
      "qwen3",
      {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attn_factor": 0.8}},
      "attn_factor of its rope_parameters 0.8; supported: of yarn factor, attention_factor",
    ),
    (
      "qwen2",
      {"rope_scaling": {"rope_type": "default", "mrope_section": [16, 24, 24]}},
      "mrope_section of its rope_parameters",
    ),
    ("phi3", {"partial_rotary_factor": 0.5}, r"not a valid config of phi3: .*must have length 1"),
    ("qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5; supported: 1.0"),
    ("olmo3", {"rope_theta": 1e6}, "rope_theta 1000000.0; supported: 500000.0, or both bases"),
    # Images.
    ("llama", {"model_type": "gemma3"}, "text_config None; it must describe the text part"),
  ],
)
def test_what_would_change_the_numbers_is_refused(tmp_path, case, config, message):
  with pytest.raises(ConfigError, match=rf"^{cases.FIELD} is '.*', whose config.json .*{message}"):
    read_case(tmp_path, case, **config)


@pytest.mark.parametrize(
  ("case", "config"),
  [
    ("llama", {"attention_dropout": 0.1, "pretraining_tp": 2, "use_cache": False}),
    ("llama", {"rope_interleaved": False, "is_llama_config": True, "num_experts": 0, "bias": None}),
    ("llama", {"layer_types": ["full_attention"] * 4, "logit_scale": 1.0}),
    ("llama", {"_attn_implementation": "sdpa", "unsloth_fixed": True, "model_max_length": 4096}),
    ("smollm3", {"max_window_layers": 28, "use_sliding_window": False, "sliding_window": None}),
    ("gemma2", {"hidden_act": "gelu_pytorch_tanh", "sliding_window_size": 6}),
    (
      "gemma3_text",
      {"_sliding_window_pattern": 9, "layer_types": [*[SLIDING] * 2, "full_attention", SLIDING]},
    ),
    ("phi3", {"embd_pdrop": 0.1, "full_attn_mod": 1, "lm_head_bias": False}),
  ],
)
def test_what_changes_nothing_is_passed_over(tmp_path, said, case, config):
  assert read_case(tmp_path, case, **config).architecture == read_case(tmp_path, case).architecture
  assert not said


def test_what_nothing_reads_is_said_once(tmp_path, said):
  for _ in range(2):
    read_case(tmp_path, "llama", curriculum="three stages", licence_note=["x"])
  (text,) = said
  assert text.endswith(
    "whose config.json has fields that nothing reads: curriculum 'three stages', "
    "licence_note ['x']."
  )


@pytest.mark.parametrize("layout", ["old", "new"])
def test_the_text_part_of_a_model_of_images(tmp_path, layout):
  plain = cases.write(tmp_path / "plain", "gemma3_text")
  text = cases.golden("gemma3_text")["config"]
  whole = tmp_path / "whole"
  inner, outer = {"old": ("language_model.model.", ""), "new": ("model.language_model.", "model.")}[
    layout
  ]
  checkpoint = read_config(
    whole,
    {
      "architectures": ["Gemma3ForConditionalGeneration"],
      "eos_token_id": [1, 106],
      "mm_tokens_per_image": 256,
      "model_type": "gemma3",
      "text_config": {k: v for k, v in text.items() if k != "architectures"},
      "vision_config": {"model_type": "siglip_vision_model", "num_attention_heads": 16},
    },
  )
  stored = {
    inner + name.removeprefix("model."): values
    for name, values in load_file(plain / "model.safetensors").items()
  }
  images = ("vision_tower.embeddings.weight", "multi_modal_projector.mm_soft_emb_norm.weight")
  stored |= {outer + name: np.ones(3, np.float32) for name in images}
  save_file(stored, whole / "model.safetensors")
  alone = cases.read(plain)
  assert checkpoint.architecture == alone.architecture
  assert checkpoint.is_text_part and not alone.is_text_part
  assert (checkpoint.family, checkpoint.hf_config["eos_token_id"]) == ("gemma3_text", [1, 106])
  abstract = define_policy(alone.architecture, tiny.mesh()).abstract
  ours, theirs = (import_decoder(one, abstract, cases.FIELD) for one in (checkpoint, alone))
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_rows_that_need_the_long_factors_are_refused(tmp_path):
  config = tiny.config(model__checkpoint=str(tmp_path), model__shape=None)
  longest = judged_length(config)

  def limit(positions):
    cases.write(tmp_path, "phi3", config={"original_max_position_embeddings": positions})
    origins = find_origins(config)
    check_positions(config, origins)
    return origins.policy.longest_row

  assert limit(longest) == longest
  with pytest.raises(ConfigError, match=rf"beyond {longest - 1} positions, .* has {longest}: "):
    limit(longest - 1)
