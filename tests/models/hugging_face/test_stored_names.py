"""Checkpoints as other tools write them: wrapped names, other heads, files of other kinds."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from apo_jax.config.fields import ConfigError
from apo_jax.models.hugging_face.importing import TensorFiles
from tests.models.hugging_face import cases

FIELD = cases.FIELD
WEIGHTS = "model.safetensors"


def renamed(directory, case, rename, **config):
  """A checkpoint whose tensors have other names; where `rename` gives None they are left out."""
  cases.write(directory, case, config=config)
  names = {name: rename(name) for name in load_file(directory / WEIGHTS)}
  tensors = load_file(directory / WEIGHTS)
  save_file({new: tensors[old] for old, new in names.items() if new}, directory / WEIGHTS)
  return directory


def read_all(directory):
  """The tensors by their names in transformers, and what is said of them."""
  checkpoint = cases.read(directory)
  files = TensorFiles(checkpoint, FIELD)
  case = cases.REWARD if checkpoint.is_reward else "llama"
  shapes = cases.golden(case)["tensors"]
  read = {n: files.read(n, tuple(slice(0, size) for size in shape)) for n, shape in shapes.items()}
  return read, [*checkpoint.notes, *files.notes]


def assert_is_the_case(directory, case, *said):
  read, notes = read_all(directory)
  for name, expected in cases.tensors(case).items():
    np.testing.assert_array_equal(read[name], expected)
  assert len(notes) == len(said) and all(map(lambda note, part: part in note, notes, said)), notes


def assert_refused(directory, message):
  with pytest.raises(ConfigError, match=rf"^{FIELD} is '.*{message}.*\.$"):
    TensorFiles(cases.read(directory), FIELD)


@pytest.mark.parametrize(
  "wrapper",
  [
    *("module.", "_orig_mod.", "base_model.model.", "model.", "transformer.", "policy.", "actor."),
    *("pretrained_model.", "module._orig_mod.", "_forward_module.module.", "anything.at.all."),
  ],
)
def test_what_all_names_share_is_passed_over(tmp_path, wrapper):
  directory = renamed(tmp_path, "llama", lambda name: wrapper + name)
  assert_is_the_case(directory, "llama", "in the names of its tensors is passed over")


def test_wrappers_of_single_layers_are_passed_over(tmp_path):
  def rename(name):
    return name.replace("layers.1.", "layers.1._checkpoint_wrapped_module.").replace(
      "self_attn.", "self_attn._fsdp_wrapped_module."
    )

  assert_is_the_case(renamed(tmp_path, "llama", rename), "llama", "is passed over")


@pytest.mark.parametrize("head", ["score.weight", "rm.score.weight"])
def test_a_model_without_a_head_inside_another(tmp_path, head):
  wrapper = head.removesuffix("score.weight")

  def rename(name):
    return head if name == "score.weight" else wrapper + name.removeprefix("model.")

  said = ["is passed over"] * bool(wrapper) + ["as in a model without a head"]
  assert_is_the_case(renamed(tmp_path, cases.REWARD, rename), cases.REWARD, *said)


@pytest.mark.parametrize(
  ("rename", "message"),
  [
    (lambda name: ("model." if "layers" in name else "") + name, "has no tensor model.layers.0"),
    (lambda name: ("actor." if "norm" in name else "") + name, "has no tensor model.layers.0"),
    (
      lambda name: "policy." + name if name != "model.norm.weight" else "critic.norm.weight",
      r"has no tensor model\.norm\.weight",
    ),
  ],
)
def test_what_only_some_names_have_is_refused(tmp_path, rename, message):
  assert_refused(renamed(tmp_path, "llama", rename), message)


def test_two_models_in_one_file_are_refused(tmp_path):
  directory = cases.write(tmp_path, "llama")
  tensors = cases.tensors("llama")
  both = {f"{who}.{name}": value for name, value in tensors.items() for who in ("actor", "critic")}
  save_file(both, directory / WEIGHTS)
  assert_refused(directory, r"holds both actor\.model\.embed.* and critic\.model\.embed.*one model")
  save_file(
    tensors | {f"_orig_mod.{n}": value for n, value in tensors.items()}, directory / WEIGHTS
  )
  assert_refused(directory, r"holds both _orig_mod\..* and .*; it must hold one model")


@pytest.mark.parametrize(
  "head", ["value_head", "v_head", "v_head.summary", "classifier", "rm_head", "reward_head"]
)
@pytest.mark.parametrize("classes", [["LlamaForSequenceClassification"], ["RewardModel"]])
def test_heads_by_other_names(tmp_path, head, classes):
  def rename(name):
    return f"{head}.weight" if name == "score.weight" else name

  directory = renamed(tmp_path, cases.REWARD, rename, architectures=classes)
  assert_is_the_case(directory, cases.REWARD, f"its head is {head}.weight")
  assert cases.read(directory).reads_the_end == (classes == ["RewardModel"])


def test_what_shifts_all_rewards_alike_is_left_out_and_said(tmp_path):
  shift = {"score.bias": np.ones(1, np.float32), "mean": np.ones(1, np.float32)}
  openrlhf = {"mean": 1.5, "std": 2.0, "normalize_reward": True}
  directory = cases.write(tmp_path, cases.REWARD, shift, openrlhf)
  said = ("mean 1.5 and std 2.0", "mean is left out", "score.bias is left out")
  assert_is_the_case(directory, cases.REWARD, *said)


def test_a_value_head_beside_a_language_model_is_not_read(tmp_path):
  head = {"v_head.summary.weight": np.ones((1, 24), np.float32)}
  directory = cases.write(tmp_path, "llama", head | {"v_head.summary.bias": np.ones(1, np.float32)})
  assert_is_the_case(directory, "llama", *["of a value head, is not read"] * 2)


@pytest.mark.parametrize(
  ("changed", "config", "message"),
  [
    ({"score.weight": np.ones((2, 24), np.float32)}, {}, r"score\.weight has shape \(2, 24\)"),
    ({"score.weight": None}, {}, r"has no tensor score\.weight; .* \(or value_head, v_head"),
    (
      {"score.weight": None, "score.0.weight": np.ones((1, 24), np.float32)},
      {},
      r"has no tensor score\.weight",
    ),
    (
      {
        "score.weight": None,
        "v_head.weight": np.ones((1, 24), np.float32),
        "classifier.weight": np.ones((1, 24), np.float32),
      },
      {},
      r"has several heads, v_head\.weight and classifier\.weight",
    ),
    ({"gating.0.weight": np.ones((3, 24), np.float32)}, {}, r"has a tensor gating\.0\.weight"),
    ({}, {"architectures": ["CriticModel"]}, r"architectures \['CriticModel'\]; supported"),
    ({}, {"architectures": ["LlamaForRewardModelWithGating"]}, "architectures"),
    ({}, {"id2label": {}, "label2id": {}}, "num_labels 0; supported: 1, a reward"),
    ({}, {"num_labels": 5, "id2label": None}, "num_labels 5; supported: 1, a reward"),
  ],
)
def test_heads_that_are_no_reward_are_named(tmp_path, changed, config, message):
  assert_refused(cases.write(tmp_path, cases.REWARD, changed, config), message)


@pytest.mark.parametrize("name", ["qweight", "SCB", "weight_scale", "weight.absmax"])
def test_quantised_weights_are_named(tmp_path, name):
  projection = "model.layers.0.mlp.down_proj"
  extra = {f"{projection}.{name}": np.ones((3, 24), np.float32)}
  if name == "qweight":
    extra[f"{projection}.weight"] = None
  directory = cases.write(tmp_path, "llama", extra)
  assert_refused(directory, rf"which holds quantised weights \({projection}\.{name}\); give")


def test_adapters_that_are_not_merged_are_named(tmp_path):
  query = "model.layers.0.self_attn.q_proj"

  def rename(name):
    return name.replace(query, f"{query}.base_layer")

  assert_refused(renamed(tmp_path, "llama", rename), r"which holds adapters .*merge_and_unload")


def test_one_file_is_taken_whatever_an_index_beside_it_says(tmp_path):
  directory = cases.write(tmp_path, "llama")
  index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
  (directory / "model.safetensors.index.json").write_text(json.dumps(index))
  stale = {"model.norm.weight": np.zeros(24, np.float32)}
  save_file(stale, directory / "model-00001-of-00002.safetensors")
  assert_is_the_case(directory, "llama", "model.safetensors is read, and not what")


@pytest.mark.parametrize(
  ("case", "files", "message"),
  [
    (
      "llama",
      ("pytorch_model.bin",),
      r"only pytorch_model\.bin, which .*ForCausalLM",
    ),
    (cases.REWARD, ("pytorch_model.bin.index.json", "x.pt"), r"x\.pt, .*ForSequenceClass"),
    ("llama", ("model-q4.gguf",), r"only model-q4\.gguf"),
    ("llama", ("model.fp16.safetensors",), r"only model\.fp16\.safetensors; one file must have"),
    (
      "llama",
      ("a.safetensors",) * 1 + ("b.safetensors", "c.safetensors", "d.safetensors"),
      "1 more",
    ),
    ("llama", (), "has neither model.safetensors nor .*save_pretrained"),
  ],
)
def test_files_of_other_kinds_are_named_with_what_converts_them(tmp_path, case, files, message):
  directory = cases.write(tmp_path, case)
  (directory / WEIGHTS).unlink()
  for name in files:
    (directory / name).write_bytes(b"{}")
  assert_refused(directory, message)


def test_a_file_that_is_cut_off_is_named(tmp_path):
  path = cases.write(tmp_path, "llama") / WEIGHTS
  content = path.read_bytes()
  for kept in (content[:-1], content[:100], b""):
    path.write_bytes(kept)
    assert_refused(tmp_path, "whose model.safetensors cannot be read")


def test_code_that_comes_along_does_not_run(tmp_path):
  ran = tmp_path / "ran"
  (tmp_path / "modeling.py").write_text(f"open({str(ran)!r}, 'w')\n")
  code = {"AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.Model"}
  directory = cases.write(tmp_path, "llama", config={"auto_map": code})
  assert_is_the_case(directory, "llama", "auto_map in its config.json names is not run")
  assert not ran.exists()
