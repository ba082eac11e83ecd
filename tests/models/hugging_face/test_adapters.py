"""Adapter folders as checkpoints: what peft merges, and what is refused by its name."""

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from apo_jax.config.fields import ConfigError
from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.models.hugging_face.identity import checkpoint_sha256
from apo_jax.models.hugging_face.importing import TensorFiles
from apo_jax.plan.descriptions import read_described
from apo_jax.run import starts
from apo_jax.run.origins import find_origins
from tests import tiny
from tests.golden.hugging_face_weights import summary
from tests.models.hugging_face import adapter_folders, cases

FIELD = cases.FIELD
QUERY = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  return cases.write(tmp_path_factory.mktemp("base"), adapter_folders.BASE)


def merged(directory):
  """Every tensor of a checkpoint, read in two parts each."""
  checkpoint = cases.read(directory)
  files, tensors = TensorFiles(checkpoint, FIELD), {}
  head = {"score.weight": [1, 24]} if checkpoint.is_reward else {}
  shapes = {
    name: shape
    for name, shape in (cases.golden(adapter_folders.BASE)["tensors"] | head).items()
    if name != "lm_head.weight" or not checkpoint.is_reward
  }
  for name, shape in shapes.items():
    axis = int(np.argmax(shape))
    halves = (slice(0, shape[axis] // 2), slice(shape[axis] // 2, shape[axis]))
    whole = [slice(0, size) for size in shape]
    tensors[name] = np.concatenate(
      [files.read(name, (*whole[:axis], half, *whole[axis + 1 :])) for half in halves], axis
    )
  return tensors


@pytest.mark.parametrize("case", adapter_folders.cases())
def test_what_is_read_is_what_peft_merges(tmp_path, base, case):
  expected = adapter_folders.cases()[case]["merged"]
  original = cases.tensors(adapter_folders.BASE)
  tensors = merged(adapter_folders.write(tmp_path, case, base))
  for name, value in tensors.items():
    if name in expected:
      np.testing.assert_allclose(summary(name, value), expected[name], rtol=1e-5, atol=1e-5)
    else:
      np.testing.assert_array_equal(value, original[name])
  assert expected.keys() <= tensors.keys()


def test_who_trains_says_whether_it_is_a_reward_model(tmp_path, base):
  policy = cases.read(adapter_folders.write(tmp_path / "policy", "plain", base))
  reward = cases.read(adapter_folders.write(tmp_path / "reward", "reward", base))
  assert not policy.is_reward and reward.is_reward
  assert "are merged into" in policy.notes[0] and str(base) in policy.notes[0]


def test_the_base_is_found_from_here_and_from_the_folder(tmp_path, base, monkeypatch):
  beside = os.path.relpath(base, tmp_path / "adapters")
  directory = adapter_folders.write(tmp_path / "adapters", "plain", beside)
  assert cases.read(directory).directory.resolve() == base.resolve()
  monkeypatch.chdir(base.parent)
  directory = adapter_folders.write(tmp_path / "adapters", "plain", base.name)
  assert cases.read(directory).directory.resolve() == base.resolve()


def test_a_plan_needs_no_weights(tmp_path, base):
  directory = adapter_folders.write(tmp_path / "adapters", "reward", base)
  (directory / "adapter_model.safetensors").unlink()
  described = read_described(FIELD, str(directory), tiny.config())
  assert described.is_reward and described.directory == base


def test_the_identity_is_of_both(tmp_path, base):
  def identity(**changed):
    directory = adapter_folders.write(tmp_path, "plain", base, **changed)
    return checkpoint_sha256(*cases.read(directory).directories)

  plain = identity()
  assert plain == identity() != checkpoint_sha256(base)
  assert identity(settings={"lora_alpha": 7}) != plain
  assert identity(tensors={f"{QUERY}.lora_A.weight": np.zeros((3, 24), np.float32)}) != plain


def test_files_beside_the_adapters_come_first(tmp_path, base):
  checkpoint = cases.read(adapter_folders.write(tmp_path, "plain", base))
  assert checkpoint.tokenizer_directory == checkpoint.generation_directory == base
  (tmp_path / "tokenizer.json").write_text("{}")
  (tmp_path / "generation_config.json").write_text("{}")
  assert checkpoint.tokenizer_directory == checkpoint.generation_directory == tmp_path


def test_names_as_older_versions_wrote_them(tmp_path, base):
  expected = merged(adapter_folders.write(tmp_path / "new", "saved", base))
  shapes = adapter_folders.cases()["saved"]["tensors"]
  renamed = {}
  for name, value in adapter_folders.made("saved").items():
    old = name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.")
    if old == name:
      old = name.replace(".weight", ".modules_to_save.default.weight")
    renamed |= {name: None, old: value}
  assert len(renamed) == 2 * len(shapes)
  actual = merged(adapter_folders.write(tmp_path / "old", "saved", base, tensors=renamed))
  for name, value in expected.items():
    np.testing.assert_array_equal(actual[name], value)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"peft_type": "IA3"}, "peft_type 'IA3'; supported: LORA"),
    ({"task_type": "SEQ_2_SEQ_LM"}, "task_type 'SEQ_2_SEQ_LM'"),
    ({"bias": "all"}, "bias 'all'; supported: none"),
    ({"use_dora": True}, "use_dora True; supported: none of it"),
    ({"fan_in_fan_out": True}, "fan_in_fan_out True"),
    ({"layer_replication": [[0, 2]]}, r"layer_replication \[\[0, 2\]\]"),
    ({"trainable_token_indices": [3]}, r"trainable_token_indices \[3\]"),
    ({"target_parameters": ["x"]}, r"target_parameters \['x'\]"),
    ({"lora_bias": True}, "lora_bias True"),
    ({"use_of_next_year": 1}, "use_of_next_year 1"),
    ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights 'pissa_niter_16'"),
    ({"init_lora_weights": "loftq"}, "init_lora_weights 'loftq'"),
    ({"r": 0}, "r 0; supported: a number above 0"),
    ({"lora_alpha": "16"}, "lora_alpha '16'"),
    ({"rank_pattern": [3]}, r"rank_pattern \[3\]"),
    ({"rank_pattern": {"q_proj(": 3}}, r"rank_pattern \{'q_proj\(': 3\}"),
    ({"alpha_pattern": {"q_proj": None}}, r"alpha_pattern \{'q_proj': None\}"),
    ({"base_model_name_or_path": None}, "base_model_name_or_path None; it must be the directory"),
    ({"base_model_name_or_path": "./gone"}, r"adapters whose base is './gone', which is not a dir"),
  ],
)
def test_settings_that_cannot_be_merged_are_named(tmp_path, base, settings, message):
  with pytest.raises(ConfigError, match=rf"^{FIELD} is '.*{message}"):
    cases.read(adapter_folders.write(tmp_path, "plain", base, settings=settings))


@pytest.mark.parametrize(
  ("tensors", "message"),
  [
    ({f"{QUERY}.lora_B.weight": None}, r"no model\.layers\.0\.self_attn\.q_proj\.lora_B\.weight"),
    (
      {f"{QUERY}.lora_A.weight": np.zeros((2, 24), np.float32)},
      r"lora_A\.weight has shape \(2, 24\); .* it must be \(3, 24\)",
    ),
    ({f"{QUERY}.lora_A.weight": np.zeros((3, 24), np.int8)}, "has type I8"),
    (
      {
        "base_model.model.transformer.h.0.c_attn.lora_A.weight": np.zeros((3, 24), np.float32),
        "base_model.model.transformer.h.0.c_attn.lora_B.weight": np.zeros((24, 3), np.float32),
      },
      r"changes transformer\.h\.0\.c_attn, a matrix that its base has not",
    ),
    (
      {f"{QUERY}.lora_magnitude_vector": np.zeros(24, np.float32)},
      r"has .*lora_magnitude_vector, of DoRA",
    ),
    ({f"{QUERY}.bias": np.zeros(24, np.float32)}, r"q_proj\.bias, a tensor that its base has not"),
    (
      {"base_model.model.lm_head.weight": np.zeros((68, 24), np.float32)},
      r"lm_head\.weight has shape \(68, 24\); by its base .* it must be \(67, 24\)",
    ),
  ],
)
def test_tensors_that_do_not_fit_the_base_are_named(tmp_path, base, tensors, message):
  directory = adapter_folders.write(tmp_path, "plain", base, tensors=tensors)
  with pytest.raises(ConfigError, match=rf"^{FIELD} is '.*adapters whose base is .*{message}"):
    TensorFiles(cases.read(directory), FIELD)


def test_wrong_folders_are_named(tmp_path, base):
  def fails(message, directory):
    with pytest.raises(ConfigError, match=rf"^{FIELD} is '.*{message}"):
      TensorFiles(cases.read(directory), FIELD)

  first = adapter_folders.write(tmp_path / "first", "plain", base)
  fails("is '.*first', adapters as well", adapter_folders.write(tmp_path / "on", "plain", first))
  weights = first / "adapter_model.safetensors"
  content = weights.read_bytes()
  weights.write_bytes(content[:-8])
  fails("whose adapter_model.safetensors cannot be read", first)
  weights.unlink()
  fails("has no adapter_model.safetensors; where it has an adapter_model.bin", first)
  save_file({"x": np.zeros(2, np.float32)}, first / "model.safetensors")
  fails("holds adapters, .*, and a whole model", first)
  reward = cases.write(tmp_path / "reward_base", cases.REWARD)
  fails("a sequence classifier; adapters", adapter_folders.write(tmp_path / "x", "plain", reward))
  headless = {"base_model.model.score.weight": None}
  directory = adapter_folders.write(tmp_path / "y", "reward", base, tensors=headless)
  fails(r"has no tensor score\.weight", directory)


def test_a_table_that_is_head_too_is_changed_as_one(tmp_path):
  tied = cases.write(
    tmp_path / "tied",
    adapter_folders.BASE,
    {"lm_head.weight": None},
    config={"tie_word_embeddings": True},
  )
  table = np.ones((67, 24), np.float32)
  head, embedding = (
    f"base_model.model.{name}.weight" for name in ("lm_head", "model.embed_tokens")
  )
  equal = adapter_folders.write(
    tmp_path / "equal", "plain", tied, tensors={head: table, embedding: table.copy()}
  )
  files = TensorFiles(cases.read(equal), FIELD)
  rows = (slice(0, 67), slice(0, 24))
  np.testing.assert_array_equal(files.read("model.embed_tokens.weight", rows), table)
  for number, tensors in enumerate(({head: table}, {head: table, embedding: 2 * table})):
    wrong = adapter_folders.write(tmp_path / str(number), "plain", tied, tensors=tensors)
    with pytest.raises(ConfigError, match="they are one tensor there"):
      TensorFiles(cases.read(wrong), FIELD)


def test_players_start_from_adapter_folders(tmp_path, base):
  policy = adapter_folders.write(tmp_path / "policy", "plain", base)
  reward = adapter_folders.write(tmp_path / "reward", "reward", base)
  config = tiny.config(model__checkpoint=str(policy), reward__checkpoint=str(reward))
  origins = find_origins(config)
  assert len(set(origins.fingerprints.values())) == 2
  definition = define_reward_model(origins.reward, "last", tiny.mesh())
  policy = define_policy(origins.policy, tiny.mesh())
  started = starts.first_reward(origins, policy, definition, {}, seed=0)
  written = adapter_folders.made("reward")
  np.testing.assert_array_equal(started["reward_head"], written["base_model.model.score.weight"][0])
  a, b = (written[f"{QUERY}.lora_{side}.weight"] for side in "AB")
  name = "model.layers.0.self_attn.q_proj.weight"
  expected = cases.tensors(adapter_folders.BASE)[name] + 6 / 2 * b @ a
  query = np.asarray(started["trunk"]["layers"]["query"][0]).reshape(24, 24)
  np.testing.assert_allclose(query, expected.T, atol=1e-5)
