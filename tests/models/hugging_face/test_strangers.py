"""Checkpoints of strangers: what is no model ends in a sentence, before anything is made of it."""

import json
import os
import struct

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.models.hugging_face.importing import TensorFiles
from apo_jax.models.hugging_face.limits import check_numbers
from tests.models.hugging_face import cases

NAN, INFINITY = float("nan"), float("inf")
ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE["original_max_position_embeddings"] = 8192


def refuse(directory, message):
  with pytest.raises(ConfigError, match=f"^{cases.FIELD} is .*{message}"):
    TensorFiles(cases.read(directory), cases.FIELD)


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000; supported: .* 1 to 10,000"),
    ({"num_hidden_layers": -1}, "num_hidden_layers -1; supported"),
    ({"num_hidden_layers": INFINITY}, "num_hidden_layers inf; supported"),
    ({"num_attention_heads": 0}, "num_attention_heads 0; supported"),
    ({"num_key_value_heads": 10**12}, "num_key_value_heads 1000000000000; supported"),
    ({"hidden_size": 10**12}, "hidden_size 1000000000000; supported"),
    ({"head_dim": -8}, "head_dim -8; supported"),
    ({"intermediate_size": 2.5}, "intermediate_size 2.5; supported"),
    ({"vocab_size": 10**12}, "vocab_size 1000000000000; supported"),
    ({"num_labels": 10**9}, "num_labels 1000000000; supported"),
    ({"max_position_embeddings": 10**18}, "max_position_embeddings 1000000000000000000; supp"),
    ({"sliding_window": 10**18}, "sliding_window 1000000000000000000; supported"),
    ({"rope_theta": 0}, "rope_theta 0; supported"),
    ({"rope_theta": -1.0}, "rope_theta -1.0; supported"),
    ({"rope_theta": NAN}, "rope_theta nan; supported"),
    ({"rope_theta": INFINITY}, "rope_theta inf; supported"),
    ({"rope_theta": 10**400}, "rope_theta 1000.*0; supported"),
    ({"rope_theta": 1e300}, "rope_theta 1e.300; supported"),
    ({"rms_norm_eps": 0.0}, "rms_norm_eps 0.0; supported"),
    ({"rms_norm_eps": NAN}, "rms_norm_eps nan; supported"),
    ({"rms_norm_eps": 1e9}, "rms_norm_eps 1000000000.0; supported"),
    ({"rope_scaling": ROPE | {"factor": NAN}}, "rope_scaling.factor nan; supported"),
    ({"rope_scaling": ROPE | {"factor": 1e308}}, r"rope_scaling.factor 1e\+308; supported"),
    ({"x": {"y": [1, INFINITY]}}, "x.y inf; supported"),
    ({"architectures": "LlamaForCausalLM"}, "architectures 'LlamaForCausalLM'; it must be a list"),
    ({"architectures": [3]}, r"architectures \[3\]; it must be a list"),
    ({"model_type": ["llama"]}, r"model_type \['llama'\]; it must be the name"),
  ],
)
def test_hostile_numbers_of_a_config(config, message):
  given = cases.golden("llama")["config"] | config
  with pytest.raises(ConfigError, match=f"^it has {message}"):
    check_numbers(given, "it")


def test_what_is_checked_first_is_all_that_is_made_of_a_config(tmp_path):
  refuse(cases.write(tmp_path, "llama", config={"num_labels": 10**9}), "num_labels 1000000000;")


@pytest.mark.parametrize(
  ("rope", "message"),
  [
    (ROPE | {"low_freq_factor": 4.0}, "high_freq_factor of its rope_parameters 4.0; supported"),
    (
      {"rope_type": "longrope", "short_factor": ["a"], "long_factor": [1.0], "factor": 2.0}
      | {"original_max_position_embeddings": 64},
      r"short_factor of its rope_parameters \['a'\]; supported",
    ),
    (
      {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0], "factor": 2.0}
      | {"original_max_position_embeddings": 1},
      "original_max_position_embeddings of its rope_parameters 1; supported",
    ),
  ],
)
def test_positions_that_divide_by_nothing(tmp_path, rope, message):
  refuse(cases.write(tmp_path, "llama", config={"rope_scaling": rope}), message)


def test_published_numbers_are_within_the_limits():
  for name in (*cases.POLICIES, cases.REWARD):
    check_numbers(cases.golden(name)["config"], name)
  published = json.loads((cases.GOLDEN / "published.json").read_text())
  assert len(published["models"]) > 3
  for name, given in published["models"].items():
    check_numbers(given["config"], name)


def test_layers_that_the_weights_have_not(tmp_path):
  cases.write(tmp_path, "llama", config={"num_hidden_layers": 500})
  refuse(tmp_path, "whose config.json has 500 layers, but whose weights have .* tensors in all")


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("[" * 100_000, "whose config.json is not JSON"),
    ('{"a":' * 100_000, "whose config.json is not JSON"),
    ('{"model_type": ' + "9" * 5000 + "}", "whose config.json is not JSON"),
    ("\0\0\0", "whose config.json is not JSON"),
    ("[1]", "whose config.json is no JSON object"),
    (" " * (33 * 2**20), "whose config.json has 34,603,008 bytes; it must have at most"),
  ],
)
def test_files_that_hold_no_config(tmp_path, text, message):
  cases.write(tmp_path, "llama")
  (tmp_path / "config.json").write_text(text)
  refuse(tmp_path, message)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
  cases.write(tmp_path, "llama")
  (tmp_path / name).unlink()
  os.mkfifo(tmp_path / name)
  refuse(tmp_path, f"whose {name} is no file")


def test_names_that_move_a_terminal(tmp_path):
  cases.write(tmp_path, "llama", config={"model_type": f"\x1b[2J\n{'A' * 100_000}"})
  with pytest.raises(ConfigError) as raised:
    cases.read(tmp_path)
  assert len(str(raised.value)) < 2000 and str(raised.value).isprintable()


@pytest.mark.parametrize("file", ["../outside.safetensors", "/etc/passwd", "deep/../../x", ".."])
def test_an_index_names_only_what_lies_beside_it(tmp_path, file):
  directory = cases.write(tmp_path / "model", "llama")
  (directory / "model.safetensors").rename(tmp_path / "outside.safetensors")
  index = {"weight_map": {"model.norm.weight": file}}
  (directory / "model.safetensors.index.json").write_text(json.dumps(index))
  refuse(directory, "whose model.safetensors.index.json names .* it must name files beside it")


def entry(start, end, shape=(4,), dtype="F32"):
  return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
  "header",
  [
    struct.pack("<Q", 2**63) + b"{}",  # longer than memory
    struct.pack("<Q", 100) + b"{}",  # longer than the file
    b"\x00" * 4,
    {"a": entry(0, 2**40)},
    {"a": entry(16, 0)},
    {"a": entry(0, 16, (2**62, 2**62))},
    {"a": entry(0, 16, (2,))},
    {"a": entry(0, 16), "b": entry(8, 24)},
    {"a": entry(0, 16, dtype="PICKLE")},
    b'{"a":' * 50_000,
  ],
  ids=range(10),
)
def test_headers_of_weights_that_lie(tmp_path, header):
  """The library refuses them; were it not so, arrays would be read from beyond a file's end."""
  directory = cases.write(tmp_path, "llama")
  if isinstance(header, dict):
    header = json.dumps(header).encode()
  if not header.startswith((b"\0", struct.pack("<Q", 2**63), struct.pack("<Q", 100))):
    header = struct.pack("<Q", len(header)) + header
  (directory / "model.safetensors").write_bytes(header + b"\0" * 16)
  refuse(directory, "whose model.safetensors cannot be read")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_never_read(tmp_path, name):
  directory = cases.write(tmp_path, "llama")
  (directory / "model.safetensors").unlink()
  # One that makes a file when it is read.
  (directory / name).write_bytes(b"cposix\nsystem\n(S'touch %b/ran'\ntR." % bytes(tmp_path))
  refuse(directory, f"only {name}, which are not read")
  assert not (tmp_path / "ran").exists()


def test_an_adapter_s_pattern_that_takes_years(tmp_path):
  from apo_jax.models.hugging_face import adapters

  pattern = {r"(?:.|\w|\D)*\d\d\d": 4}
  with pytest.raises(ConfigError, match=r"pattern of module names .* takes more than 1 s"):
    adapters._by_pattern(pattern, "model.layers.0.self_attn.q_proj", 8)
  assert adapters._by_pattern({"q_proj": 4}, "model.layers.0.self_attn.q_proj", 8) == 4
