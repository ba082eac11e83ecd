"""What is exported is what was imported, bit by bit, under the names that transformers gives it."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from apo_jax.config.schema import LoraConfig
from apo_jax.export.peft import STEM, adapter_config, adapter_tensors
from apo_jax.export.weights import (
  has_classifier,
  llama_config,
  policy_config,
  policy_tensors,
  reward_config,
  reward_tensors,
  write_weights,
)
from apo_jax.models.definition import (
  Definition,
  Parameters,
  define_policy,
  define_reward_model,
  join,
  merged,
  trunk_of,
)
from apo_jax.models.hugging_face.importing import import_decoder, import_reward_head
from apo_jax.models.hugging_face.names import FAMILIES
from tests import tiny
from tests.models.hugging_face import cases

LORA = LoraConfig(rank=3, alpha=6.0, dropout=0.1, modules=("query", "output", "down", "value"))


def imported(directory: Path) -> tuple[Definition, Parameters]:
  checkpoint = cases.read(directory)
  definition = define_policy(checkpoint.architecture, tiny.mesh())
  return definition, import_decoder(checkpoint, definition.abstract, cases.FIELD)


def export_policy(directory: Path, definition, parameters, base, family, dtype="float32", **limit):
  directory.mkdir(exist_ok=True)
  write_weights(directory, policy_tensors(parameters, definition, family, dtype), **limit)
  config = policy_config(base, family, definition.architecture, dtype)
  (directory / "config.json").write_text(json.dumps(config))
  return directory


def assert_equal(ours: Parameters, theirs: Parameters) -> None:
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", cases.COMPILED)
def test_import_export_import_changes_no_bit(tmp_path, name):
  source = cases.write(tmp_path / "source", name)
  checkpoint = cases.read(source)
  definition, parameters = imported(source)
  base, family = checkpoint.hf_config, checkpoint.family
  exported = export_policy(tmp_path / "exported", definition, parameters, base, family)

  theirs, ours = (load_file(path / "model.safetensors") for path in (source, exported))
  assert ours.keys() == theirs.keys()
  for tensor, values in theirs.items():
    np.testing.assert_array_equal(ours[tensor], values, err_msg=tensor)
  assert cases.read(exported).architecture == checkpoint.architecture
  assert_equal(imported(exported)[1], parameters)


@pytest.mark.parametrize("name", ["llama3", "gemma3_text"])
def test_what_was_exported_has_the_logits_of_transformers(tmp_path, name):
  golden = cases.golden(name)
  checkpoint = cases.read(cases.write(tmp_path / "source", name))
  definition, parameters = imported(checkpoint.directory)
  exported = export_policy(
    tmp_path / "exported", definition, parameters, checkpoint.hf_config, checkpoint.family
  )
  definition, parameters = imported(exported)
  tokens = jnp.array(golden["tokens"])

  @jax.jit
  def logits(parameters):
    policy = definition.bind(parameters)
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return policy.logits(policy(tokens, jnp.ones_like(tokens), positions)[0])

  known = logits(parameters)[..., : golden["config"]["vocab_size"]]
  np.testing.assert_allclose(known, golden["logits"], atol=1e-4)


def test_bfloat16_stays_as_it_was(tmp_path):
  source = cases.write(tmp_path / "source", "qwen2")
  narrow = {k: v.astype(ml_dtypes.bfloat16) for k, v in cases.tensors("qwen2").items()}
  save_file(narrow, source / "model.safetensors")
  definition, parameters = imported(source)
  base = cases.read(source).hf_config
  exported = export_policy(tmp_path / "e", definition, parameters, base, "qwen2", "bfloat16")
  written = load_file(exported / "model.safetensors")
  assert written.keys() == narrow.keys()
  for tensor, values in narrow.items():
    assert written[tensor].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(written[tensor], values, err_msg=tensor)
  assert json.loads((exported / "config.json").read_text())["dtype"] == "bfloat16"


def test_several_files_with_an_index(tmp_path):
  source = cases.write(tmp_path / "source", "llama")
  definition, parameters = imported(source)
  base, limit = cases.read(source).hf_config, 16_000
  exported = export_policy(
    tmp_path / "exported", definition, parameters, base, "llama", max_file_bytes=limit
  )
  index = json.loads((exported / "model.safetensors.index.json").read_text())
  files = sorted(path.name for path in exported.glob("*.safetensors"))
  assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
  assert set(index["weight_map"].values()) == set(files)
  held = {name: load_file(exported / name) for name in files}
  sizes = {name: sum(v.nbytes for v in tensors.values()) for name, tensors in held.items()}
  assert max(sizes.values()) <= limit
  assert index["metadata"]["total_size"] == sum(sizes.values())
  assert all(tensor in held[name] for tensor, name in index["weight_map"].items())
  assert_equal(imported(exported)[1], parameters)


def test_a_process_that_does_not_write_gathers_all_the_same():
  definition, parameters = tiny.policy()
  tensors = policy_tensors(parameters, definition, "llama", "float32")
  gathered = []
  counted = [t._replace(gather=lambda t=t: gathered.append(t.name) or t.gather()) for t in tensors]
  write_weights(None, counted)
  assert gathered == [tensor.name for tensor in tensors]


def test_a_reward_model_comes_back(tmp_path):
  source = cases.read(cases.write(tmp_path / "source", cases.REWARD))
  definition = define_reward_model(source.architecture, "eos", tiny.mesh())
  parameters = {
    "trunk": import_decoder(source, definition.abstract["trunk"], cases.FIELD),
    "reward_head": import_reward_head(source, definition.abstract["reward_head"], cases.FIELD),
  }
  exported = tmp_path / "exported"
  exported.mkdir()
  write_weights(exported, reward_tensors(parameters, definition, source.family, "float32"))
  written = load_file(exported / "model.safetensors")
  theirs = cases.tensors(cases.REWARD)
  assert written.keys() == theirs.keys()
  for tensor, values in theirs.items():
    np.testing.assert_array_equal(written[tensor], values, err_msg=tensor)


@pytest.mark.parametrize("name", cases.POLICIES)
def test_a_reward_model_of_each_family_is_read_as_one(tmp_path, name):
  source = cases.read(cases.write(tmp_path / "source", name))
  if not has_classifier(source.family):
    assert name == "granite"
    return
  config = reward_config(source.hf_config, source.family, source.architecture, "float32", 5)
  (tmp_path / "config.json").write_text(json.dumps(config))
  read = cases.read(tmp_path)
  assert read.is_reward and not source.is_reward
  assert read.architecture == source.architecture
  assert config["pad_token_id"] == 5


def test_every_family_is_tried():
  assert {cases.golden(name)["config"]["model_type"] for name in cases.POLICIES} == set(FAMILIES)


@pytest.mark.parametrize("tied", [True, False])
def test_random_weights_become_a_llama(tmp_path, tied):
  architecture = tiny.architecture(tied_embeddings=tied, vocab_size=300, remat="none")
  definition = define_policy(architecture, tiny.mesh())
  parameters = definition.init(0)
  base = llama_config(definition.architecture, 100)
  exported = export_policy(tmp_path / "exported", definition, parameters, base, "llama")
  assert cases.read(exported).architecture == architecture
  again = imported(exported)[1]
  # No file holds the rows that belong to no token; they come back as zeros.
  tables = {
    name: parameters[name].at[300:].set(0) for name in {"embedding", "head"} & {*parameters}
  }
  assert_equal(again, parameters | tables)
  config = json.loads((exported / "config.json").read_text())
  assert config["vocab_size"] == 300 and config["max_position_embeddings"] == 100
  assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]


def with_adapters(definition: Definition) -> Parameters:
  """Parameters whose adapters change something: B is not zero."""
  trained, frozen = definition.split(definition.init(0))
  key = jax.random.key(1)
  moved = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(key, leaf.shape), trained)
  return join(moved, frozen)


def test_adapters_are_merged(tmp_path):
  definition = define_policy(tiny.architecture(), tiny.mesh(), LORA)
  parameters = with_adapters(definition)
  plain = dataclasses.replace(definition, lora=None)
  tensors = policy_tensors(parameters, definition, "llama", "float32")
  expected = policy_tensors(merged(parameters, LORA), plain, "llama", "float32")
  assert [t.name for t in tensors] == [t.name for t in expected]
  for ours, theirs in zip(tensors, expected, strict=True):
    np.testing.assert_allclose(ours.gather(), theirs.gather(), atol=1e-6, err_msg=ours.name)


@pytest.mark.parametrize("player", ["policy", "reward"])
def test_adapters_alone_are_what_peft_reads(tmp_path, player):
  """W + alpha / rank * B A of the adapter's files is the merged weight."""
  architecture = tiny.architecture()
  if player == "policy":
    definition = define_policy(architecture, tiny.mesh(), LORA)
  else:
    definition = define_reward_model(architecture, "last", tiny.mesh(), LORA)
  parameters = with_adapters(definition)
  trained, _ = definition.split(parameters)
  write_weights(tmp_path, adapter_tensors(trained, definition, "llama", "float32"), STEM)
  adapter = load_file(tmp_path / "adapter_model.safetensors")
  whole = reward_tensors if player == "reward" else policy_tensors
  everything = {t.name: t.gather() for t in whole(parameters, definition, "llama", "float32")}
  trunk = parameters if player == "policy" else parameters["trunk"]
  frozen = {
    t.name: t.gather()
    for t in policy_tensors(trunk_of(trunk), without_head(definition), "llama", "float32")
  }
  config = adapter_config(definition, "llama", "some/base", reward=player == "reward")
  assert set(config["target_modules"]) == {"q_proj", "o_proj", "down_proj", "v_proj"}
  assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 6.0, 0.1)
  assert config["base_model_name_or_path"] == "some/base"
  assert config["task_type"] == {"policy": "CAUSAL_LM", "reward": "SEQ_CLS"}[player]

  stems = {name.rsplit(".lora_", 1)[0] for name in adapter if ".lora_" in name}
  assert len(stems) == architecture.layers * len(LORA.modules)
  for stem in stems:
    name = stem.removeprefix("base_model.model.") + ".weight"
    a, b = (adapter[f"{stem}.lora_{side}.weight"] for side in "AB")
    assert a.shape[0] == b.shape[1] == LORA.rank
    change = config["lora_alpha"] / config["r"] * b @ a
    assert np.abs(change).max() > 1e-3
    np.testing.assert_allclose(frozen[name] + change, everything[name], atol=1e-5, err_msg=name)
  rest = {name for name in adapter if ".lora_" not in name}
  if player == "reward":
    assert config["modules_to_save"] == ["score"]
    assert rest == {"base_model.model.score.weight"}
    np.testing.assert_array_equal(
      adapter["base_model.model.score.weight"], parameters["reward_head"][None]
    )
  else:
    assert config["modules_to_save"] is None and not rest


def test_adapters_of_fused_projections_are_one_of_peft(tmp_path):
  """Of queries and values, in one tensor with keys, and of the gate, in one with `up`."""
  lora = dataclasses.replace(LORA, modules=("query", "value", "gate", "down"))
  checkpoint = cases.read(cases.write(tmp_path / "source", "phi3"))
  definition = define_policy(checkpoint.architecture, tiny.mesh(), lora)
  parameters = with_adapters(definition)
  trained, frozen = definition.split(parameters)
  write_weights(tmp_path, adapter_tensors(trained, definition, "phi3", "float32"), STEM)
  adapter = load_file(tmp_path / "adapter_model.safetensors")
  config = adapter_config(definition, "phi3", "some/base", reward=False)
  assert set(config["target_modules"]) == {"qkv_proj", "gate_up_proj", "down_proj"}
  assert config["rank_pattern"] == {"qkv_proj": 6} and config["alpha_pattern"] == {"qkv_proj": 12.0}

  plain = dataclasses.replace(definition, lora=None)
  merged_ones = {
    t.name: np.asarray(t.gather())
    for t in policy_tensors(parameters, definition, "phi3", "float32")
  }
  bases = {t.name: t.gather() for t in policy_tensors(frozen, plain, "phi3", "float32")}
  changed = {name for name in bases if not np.array_equal(bases[name], merged_ones[name])}
  stems = {name.rsplit(".lora_", 1)[0] for name in adapter}
  assert {stem.removeprefix("base_model.model.") + ".weight" for stem in stems} == changed
  for stem in stems:
    a, b = (adapter[f"{stem}.lora_{side}.weight"] for side in "AB")
    rank = config["rank_pattern"].get(stem.rpartition(".")[2], config["r"])
    assert a.shape[0] == b.shape[1] == rank
    name = stem.removeprefix("base_model.model.") + ".weight"
    change = config["lora_alpha"] / config["r"] * b @ a
    np.testing.assert_allclose(bases[name] + change, merged_ones[name], atol=1e-5, err_msg=name)


def without_head(definition: Definition) -> Definition:
  """Of a trunk's frozen weights: no adapters, and the head tied so that none is looked for."""
  architecture = dataclasses.replace(definition.architecture, tied_embeddings=True)
  return dataclasses.replace(definition, architecture=architecture, lora=None)
