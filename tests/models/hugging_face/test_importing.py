"""Import from safetensors: what is read, how it is laid out, and what is refused."""

import json
import math

import jax
import ml_dtypes
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.numpy import load_file, save_file

from apo_jax.config.fields import ConfigError
from apo_jax.models.architecture import Rope
from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.models.hugging_face import config as hugging_face_config
from apo_jax.models.hugging_face.config import resolve_directory
from apo_jax.models.hugging_face.importing import TensorFiles, import_decoder, import_reward_head
from apo_jax.models.hugging_face.names import reward_head_name, tensor_names
from tests import tiny
from tests.models.hugging_face import cases

FIELD = cases.FIELD


def import_policy(directory):
  checkpoint = cases.read(directory)
  abstract = define_policy(checkpoint.architecture, tiny.mesh()).abstract
  return import_decoder(checkpoint, abstract, FIELD)


def assert_equal(actual, expected):
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("name", cases.POLICIES)
def test_names_and_shapes_are_those_of_transformers(name, tmp_path):
  architecture = cases.read(cases.write(tmp_path, name)).architecture
  family = cases.golden(name)["config"]["model_type"]
  ours = {
    one.name(layer): list(one.tensor_shape)
    for one in tensor_names(architecture, family)
    for layer in range(architecture.layers if one.stacked else 1)
  }
  assert ours == cases.golden(name)["tensors"]


def test_every_layout_is_reversible_whole_and_in_parts(tmp_path):
  for family in ("qwen2", "gemma3_text", "phi3", "olmo2"):
    architecture = cases.read(cases.write(tmp_path, family)).architecture
    for name in (*tensor_names(architecture, family), reward_head_name(architecture)):
      theirs = np.random.default_rng(0).normal(size=name.tensor_shape).astype(np.float32)
      ours = name.to_ours(theirs)
      assert ours.shape == name.ours
      np.testing.assert_array_equal(name.to_theirs(ours), theirs[name.part])
      for parts in (2, 3):
        index = tuple(slice(size // parts, size) for size in name.ours)
        part = theirs[name.their_slices(index)]
        np.testing.assert_array_equal(name.part_to_ours(part, index), ours[index])


def test_a_projection_by_its_equation(tmp_path):
  directory = cases.write(tmp_path, "qwen2")
  parameters, file = import_policy(directory), load_file(directory / "model.safetensors")
  x = np.random.default_rng(0).normal(size=24)
  theirs = file["model.layers.2.self_attn.k_proj.weight"] @ x
  theirs += file["model.layers.2.self_attn.k_proj.bias"]
  layers = parameters["layers"]
  ours = np.einsum("d,dkn->kn", x, layers["key"][2]) + layers["key_bias"][2]
  np.testing.assert_allclose(ours.reshape(-1), theirs, atol=1e-5)


def test_rows_of_no_token_are_zeros(tmp_path):
  parameters = import_policy(cases.write(tmp_path, "llama"))
  for table in ("embedding", "head"):
    assert parameters[table].shape[0] == 128
    assert np.all(np.asarray(parameters[table])[67:] == 0)


def test_several_files_equal_one(tmp_path):
  one = import_policy(cases.write(tmp_path / "one", "llama3"))
  several = import_policy(cases.write_sharded(tmp_path / "several", "llama3"))
  assert_equal(several, one)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_half_precision_becomes_float32(tmp_path, dtype):
  half = {name: values.astype(dtype) for name, values in cases.tensors("llama").items()}
  parameters = import_policy(cases.write(tmp_path, "llama", half))
  assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {np.dtype(np.float32)}
  expected = half["model.layers.1.mlp.down_proj.weight"].astype(np.float32).T
  np.testing.assert_array_equal(parameters["layers"]["down"][1], expected)


def test_no_read_is_larger_than_one_tensor_and_nothing_is_read_twice(tmp_path, monkeypatch):
  directory = cases.write(tmp_path, "llama")
  reads, read = [], TensorFiles.read
  monkeypatch.setattr(TensorFiles, "read", lambda *args: reads.append(part := read(*args)) or part)
  import_policy(directory)
  sizes = [array.nbytes for array in load_file(directory / "model.safetensors").values()]
  assert max(part.nbytes for part in reads) == max(sizes)
  assert sum(part.nbytes for part in reads) == sum(sizes)


def test_a_reward_checkpoint_gives_trunk_and_head(tmp_path):
  checkpoint = cases.read(cases.write(tmp_path, cases.REWARD))
  abstract = define_reward_model(checkpoint.architecture, "eos", tiny.mesh()).abstract
  trunk = import_decoder(checkpoint, abstract["trunk"], FIELD)
  assert "head" not in trunk
  head = import_reward_head(checkpoint, abstract["reward_head"], FIELD)
  np.testing.assert_array_equal(head, cases.tensors(cases.REWARD)["score.weight"][0])


def test_a_reward_model_starts_from_a_language_model_without_its_head(tmp_path):
  checkpoint = cases.read(cases.write(tmp_path, "llama"))
  assert not checkpoint.is_reward
  abstract = define_reward_model(checkpoint.architecture, "eos", tiny.mesh()).abstract
  trunk = import_decoder(checkpoint, abstract["trunk"], FIELD)
  assert jax.tree.structure(trunk) == jax.tree.structure(abstract["trunk"])


def test_a_head_that_is_not_there_is_refused(tmp_path):
  reward = cases.read(cases.write(tmp_path / "reward", cases.REWARD))
  policy = cases.read(cases.write(tmp_path / "policy", "llama"))
  abstract = define_policy(reward.architecture, tiny.mesh()).abstract
  with pytest.raises(ConfigError, match="a reward model, which has no language-model head"):
    import_decoder(reward, abstract, FIELD)
  with pytest.raises(ConfigError, match="a language model, which has no reward head"):
    import_reward_head(policy, abstract["final_norm"], FIELD)


def test_harmless_tensors_are_passed_over(tmp_path):
  plain = import_policy(cases.write(tmp_path / "plain", "smollm2"))
  extra = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32),
    "lm_head.weight": cases.tensors("smollm2")["model.embed_tokens.weight"],
  }
  assert_equal(import_policy(cases.write(tmp_path / "extra", "smollm2", extra)), plain)


@pytest.mark.parametrize(
  ("case", "changed", "message"),
  [
    ("llama", {"model.norm.weight": None}, r"which has no tensor model\.norm\.weight"),
    ("llama", {"lm_head.weight": None}, r"which has no tensor lm_head\.weight"),
    (
      "qwen2",
      {"model.layers.0.self_attn.o_proj.bias": np.ones(24, np.float32)},
      r"has a tensor model\.layers\.0\.self_attn\.o_proj\.bias that a qwen2 .* has not",
    ),
    (
      "llama",
      {"model.layers.3.mlp.up_proj.weight": np.ones((24, 40), np.float32)},
      r"up_proj\.weight has shape \(24, 40\); by its config\.json it must be \(40, 24\)",
    ),
    (
      "llama",
      {"model.norm.weight": np.ones(24, np.int8)},
      r"norm\.weight has type I8; it must be one of F32, BF16, F16",
    ),
    (
      "smollm2",
      {"lm_head.weight": np.ones((67, 24), np.float32)},
      r"lm_head\.weight differs from model\.embed_tokens\.weight",
    ),
  ],
)
def test_wrong_tensors_are_named_before_any_is_read(tmp_path, monkeypatch, case, changed, message):
  monkeypatch.delattr(TensorFiles, "read")
  with pytest.raises(ConfigError, match=rf"^{FIELD} is '.*{message}"):
    import_policy(cases.write(tmp_path, case, changed))


def test_wrong_files_are_named(tmp_path):
  def fails(directory, message):
    with pytest.raises(ConfigError, match=rf"^{FIELD} is '.*{message}"):
      import_policy(directory)

  directory = cases.write_sharded(tmp_path / "sharded", "llama")
  second = directory / "model-00002-of-00003.safetensors"
  content = second.read_bytes()
  tensors = load_file(second)
  save_file({name: tensors[name] for name in sorted(tensors)[1:]}, second)
  fails(directory, rf"says that {second.name} has {sorted(tensors)[0]}, but it has not")
  second.write_bytes(content[:-100])
  fails(directory, f"whose {second.name} cannot be read")
  second.unlink()
  fails(directory, f"names {second.name}, which is not there")
  (directory / "model.safetensors.index.json").write_text("[]")
  fails(directory, "whose model.safetensors.index.json is not a JSON object with a weight_map")
  directory = cases.write(tmp_path / "empty", "llama")
  (directory / "model.safetensors").unlink()
  fails(directory, "which has neither model.safetensors nor model.safetensors.index.json")
  (directory / "config.json").write_text("{")
  fails(directory, "whose config.json is not JSON")
  (directory / "config.json").unlink()
  fails(directory, "which has no config.json")


@pytest.mark.parametrize(
  ("case", "config", "message"),
  [
    ("llama", {"model_type": "falcon"}, "model_type 'falcon'; supported: llama, mistral, qwen2"),
    ("llama", {"architectures": ["LlamaModel"]}, r"architectures \['LlamaModel'\]; supported: "),
    ("llama", {"quantization_config": {"bits": 4}}, r"quantization_config \{'bits': 4\}"),
    ("llama", {"hidden_act": "relu"}, "hidden_act 'relu'; supported: silu, gelu_pytorch_tanh"),
    ("llama", {"attention_bias": True}, "attention_bias True; supported: false"),
    ("llama", {"mlp_bias": True}, "mlp_bias True; supported: false"),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention True"),
    (
      "llama",
      {
        "rope_scaling": {
          "rope_type": "dynamic",
          "factor": 4.0,
        }
      },
      "rope_type 'dynamic'; supported: default, linear, llama3, yarn, longrope",
    ),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5; supported: 1.0"),
    ("llama", {"hidden_size": "many"}, "is not a valid config of llama"),
    ("smollm3", {"no_rope_layers": [1, 0]}, "is not a valid config of smollm3: list index"),
    ("qwen3", {"layer_types": ["chunked_attention"] * 4}, "layer_types 'chunked_attention'"),
    (
      cases.REWARD,
      {"id2label": {"0": "A", "1": "B"}, "label2id": {"A": 0, "B": 1}},
      "num_labels 2; supported: 1, a reward",
    ),
  ],
)
def test_what_the_decoder_does_not_compute_is_refused(tmp_path, case, config, message):
  directory = cases.write(tmp_path, case, config=config)
  with pytest.raises(ConfigError, match=rf"^{FIELD} is '.*', whose config.json .*{message}.*\.$"):
    cases.read(directory)


def test_old_and_new_spellings_of_rope(tmp_path):
  def rope(**config):
    (kind,) = set(cases.read(cases.write(tmp_path, "llama", config=config)).architecture.kinds)
    return kind.rope

  assert rope() == Rope(10000.0)
  assert rope(rope_theta=5e5) == Rope(5e5)
  old = {"type": "linear", "factor": 4.0}
  assert rope(rope_theta=5e5, rope_scaling=old) == Rope(5e5, "linear", 4.0)
  new = {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0}
  assert rope(rope_parameters=new) == Rope(5e5, "linear", 4.0)


def test_windows_and_positions_of_each_layer(tmp_path):
  def kinds(name, **config):
    made = cases.read(cases.write(tmp_path, name, config=config)).architecture.kinds
    return [(kind.window, kind.rope and kind.rope.theta) for kind in made]

  assert kinds("mistral") == [(5, 1e4)] * 4
  assert kinds("mistral", sliding_window=None) == [(0, 1e4)] * 4
  assert kinds("qwen2") == [(0, 1e6)] * 2 + [(6, 1e6)] * 2
  assert kinds("qwen2", use_sliding_window=False) == [(0, 1e6)] * 4
  assert kinds("smollm3") == [(0, 2e6), (0, None)] * 2
  assert kinds("gemma2") == [(6, 1e4), (0, 1e4)] * 2
  assert kinds("gemma3_text") == [(6, 1e4), (6, 1e4), (0, 1e6), (6, 1e4)]


def test_the_query_scale(tmp_path):
  def scale(name):
    return cases.read(cases.write(tmp_path, name)).architecture.query_scale

  assert scale("llama3") == 1 / math.sqrt(16)
  assert scale("gemma2") == pytest.approx(1 / math.sqrt(24))


def test_config_json_is_kept_as_it_is(tmp_path):
  checkpoint = cases.read(cases.write(tmp_path, "llama3"))
  assert checkpoint.hf_config == json.loads((tmp_path / "config.json").read_text())


def test_a_directory_or_a_name_on_the_hub(tmp_path, monkeypatch):
  assert resolve_directory(str(tmp_path), FIELD) == tmp_path
  asked = []

  def download(name, *, revision, **patterns):
    asked.append((name, revision))
    assert "*.safetensors" in patterns["allow_patterns"]
    return str(tmp_path)

  monkeypatch.setattr(hugging_face_config.huggingface_hub, "snapshot_download", download)
  assert resolve_directory("owner/model", FIELD) == tmp_path
  assert resolve_directory("owner/model@v1.0", FIELD) == tmp_path
  assert asked == [("owner/model", None), ("owner/model", "v1.0")]


def test_weights_in_a_bucket_are_refused_with_how_they_are_copied():
  with pytest.raises(ConfigError, match=r"gcloud storage cp -r gs://bucket/model DIRECTORY"):
    resolve_directory("gs://bucket/model", FIELD)


@pytest.mark.parametrize("name", ["no_such", "./checkpoint", "../checkpoint", "a--b/c", "a/b/c"])
def test_what_is_neither_a_directory_nor_a_hub_name_is_named(name):
  with pytest.raises(ConfigError) as error:
    resolve_directory(name, FIELD)
  assert str(error.value).startswith(f"{FIELD} is {name!r}, which is not a directory; it must be")


def test_without_the_hub_the_name_is_an_error(monkeypatch):
  def download(*_, **__):
    raise LocalEntryNotFoundError("no connection")

  monkeypatch.setattr(hugging_face_config.huggingface_hub, "snapshot_download", download)
  with pytest.raises(ConfigError, match=f"^{FIELD} is 'owner/model', which is neither a directory"):
    resolve_directory("owner/model", FIELD)
