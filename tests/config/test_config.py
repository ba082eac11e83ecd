import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import pytest
from ml_collections.config_flags import config_path

from apo_jax.config.base import FORMAT, base_config, fields_of_json, section, to_dict, to_json
from apo_jax.config.checks import from_config_dict
from apo_jax.config.fields import ConfigError, allowed
from apo_jax.config.lengths import judged_length
from apo_jax.config.schema import Config, LoraConfig, MeshConfig, ShapeConfig, TrainingConfig
from apo_jax.devices.checks import check_mesh, resolve_mesh
from apo_jax.models.architecture import Architecture, architecture_from_shape
from apo_jax.objectives import DPO, RRHF, PolicyLoss

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"

LOSSES = allowed(PolicyLoss)  # "'dpo', ... or 'spin'"


def load(name: str, *arguments: str) -> ml_collections.ConfigDict:
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*arguments)


def override(config: ml_collections.ConfigDict, overrides: Mapping[str, Any]) -> None:
  """Sets dotted fields, whatever their type: `from_config_dict` is what should object."""
  for path, value in overrides.items():
    *groups, name = path.split(".")
    group = config
    for part in groups:
      group = group[part]
    if name in group:
      del group[name]  # a ConfigDict refuses or converts a value of another type than the present
    group[name] = value


def demo(**overrides: Any) -> Config:
  """The demo with overrides, `__` for the dots."""
  config = load("demo")
  override(config, {path.replace("__", "."): value for path, value in overrides.items()})
  return from_config_dict(config)


@pytest.fixture
def llama(tmp_path: pathlib.Path) -> ml_collections.ConfigDict:
  config = load("llama_7b_hh")
  for name in ("demonstrations", "preferences", "golden", "queries"):
    path = tmp_path / f"{name}.jsonl"
    path.touch()
    config.data[name] = str(path)
  return config


def architecture(config: Config, **changes: int) -> Architecture:
  """The demo's decoder, or one with changes, as the config gave it."""
  made = architecture_from_shape(demo().model, config.tokenizer.vocab_size)
  return dataclasses.replace(made, **changes)


def split_sizes(config: Config, **changes: int) -> dict[str, dict[str, int]]:
  """The sizes that a mesh may split, of that decoder."""
  return {"config.model": architecture(config, **changes).split_sizes()}


def round_trip(config: Config) -> Config:
  return from_config_dict(ml_collections.ConfigDict(json.loads(json.dumps(to_dict(config)))))


def test_demo_round_trips_through_json():
  config = demo()
  assert config.policy.loss == DPO(beta=0.1, pairs="best_worst")
  assert config.data.query_buckets == (30,)
  assert config.sampling.training.stop == ("\n\nHuman",)
  assert round_trip(config) == config


def test_llama_round_trips_through_json(llama):
  config = from_config_dict(llama)
  assert config.model.checkpoint == "huggyllama/llama-7b"
  assert config.model.shape is None
  assert config.sampling.evaluation.stop == ("\nHuman",)
  assert round_trip(config) == config


def test_llama_fits_in_512_tokens_with_bos_separator_and_eos(llama):
  config = from_config_dict(llama)
  assert config.data.row_length == 512
  assert judged_length(config) == config.data.query_length + 512 + 1  # its evaluation's samples


def test_llama_is_divisible_over_eight_devices_and_over_tensor_parallel_ones(llama):
  config = from_config_dict(llama)
  assert resolve_mesh(config, 8) == MeshConfig(data=1, fsdp=8, tensor=1)
  llama_7b = split_sizes(
    config, vocab_size=32000, embed_dim=4096, heads=32, kv_heads=32, mlp_dim=11008
  )
  check_mesh(config, llama_7b, resolve_mesh(config, 8))
  check_mesh(config, llama_7b, MeshConfig(data=2, fsdp=4, tensor=8))


@pytest.mark.parametrize("name", ["demo", "llama_7b_hh", "smollm2_hh"])
def test_docstring_of_a_config_is_its_command(name):
  text = (CONFIGS / f"{name}.py").read_text()
  assert f"python -m apo_jax.main --config=configs/{name}.py" in text.split('"""')[1]


def test_the_view_is_frozen_at_every_level():
  config = demo()
  groups = [config, config.model, config.reward.base, config.sampling.training, config.mesh]
  for group in groups:
    with pytest.raises(dataclasses.FrozenInstanceError):
      setattr(group, dataclasses.fields(group)[0].name, 1)


def test_an_int_is_a_fine_float_and_a_list_a_fine_tuple():
  config = demo(policy__dpo__beta=1, data__query_buckets=[24, 30], sampling__training__stop=[])
  assert type(config.policy.loss.beta) is float
  assert config.policy.loss.beta == 1.0
  assert config.data.query_buckets == (24, 30)
  assert config.sampling.training.stop == ()


def test_a_field_reference_is_resolved():
  config = load("demo")
  config.evaluation.batch_size = config.get_ref("rounds") * 2
  config.rounds = 5
  assert from_config_dict(config).evaluation.batch_size == 10


@pytest.mark.parametrize(
  ("path", "value", "fragments"),
  [
    # Types.
    ("seed", True, ["config.seed is True", "an int at least 0"]),
    ("rounds", 3.0, ["config.rounds is 3.0", "an int"]),
    ("rounds", None, ["config.rounds is None", "an int"]),
    ("policy.dpo.beta", "0.1", ["config.policy.dpo.beta is '0.1'", "a float above 0"]),
    ("policy.dpo.beta", True, ["config.policy.dpo.beta is True", "a float"]),
    ("policy.dpo.beta", float("nan"), ["config.policy.dpo.beta is nan", "a float"]),
    ("supervised.learning_rate", float("inf"), ["config.supervised.learning_rate is inf"]),
    ("logging.wandb", 1, ["config.logging.wandb is 1", "True or False"]),
    ("tokenizer.path", 5, ["config.tokenizer.path is 5", "a string"]),
    ("data.query_buckets", 40, ["config.data.query_buckets is 40", "a tuple, each item an int"]),
    ("data.query_buckets", (24, 40.0), ["config.data.query_buckets[1] is 40.0", "an int"]),
    ("sampling.training.stop", "x", ["config.sampling.training.stop is 'x'", "item a string"]),
    ("model", 3, ["config.model is 3", "a ConfigDict of fields"]),
    # Choices.
    ("model.remat", "some", ["config.model.remat is 'some'", "'none', 'dots' or 'full'"]),
    ("model.attention", "flash", ["config.model.attention is 'flash'", "'cudnn' or 'splash'"]),
    ("memory.park_idle_player", 1, ["config.memory.park_idle_player is 1", "True or False"]),
    ("model.remat", 1, ["config.model.remat is 1", "'none', 'dots' or 'full'"]),
    ("model.compute_dtype", "int8", ["config.model.compute_dtype", "'float32' or 'bfloat16'"]),
    ("model.frozen_dtype", "fp4", ["config.model.frozen_dtype is 'fp4'", "'int8' or 'nf4'"]),
    ("model.frozen_dtype", "nf4", ["config.model.frozen_dtype is 'nf4'", "nothing is frozen"]),
    ("model.master_dtype", "int8", ["config.model.master_dtype", "'float32' or 'bfloat16'"]),
    ("policy.training.mean_dtype", "int8", ["config.policy.training.mean_dtype is 'int8'"]),
    ("data.source", "hub", ["config.data.source is 'hub'", "'embedded' or 'files'"]),
    ("supervised.schedule", "step", ["config.supervised.schedule", "'constant' or 'cosine'"]),
    (
      "reward.mode",
      "no",
      ["config.reward.mode", "'adversarial', 'preferences_only' or 'fixed'"],
    ),
    ("reward.start", "last", ["config.reward.start is 'last'", "'base' or 'previous'"]),
    ("reward.pooling", "mean", ["config.reward.pooling", "'last', 'eos', 'average' or 'max'"]),
    (
      "reward.apo.kind",
      "hinge",
      ["config.reward.apo.kind is 'hinge'", "'ranking' or 'difference'"],
    ),
    (
      "reward.apo.reduction",
      "sum",
      ["config.reward.apo.reduction is 'sum'", "'mean' or 'reference'"],
    ),
    ("policy.loss", "ppo", ["config.policy.loss is 'ppo'", f"it must be {LOSSES}"]),
    ("policy.loss", 1, ["config.policy.loss is 1", f"it must be {LOSSES}"]),
    ("policy.shapings", ("x",), ["config.policy.shapings[0] is 'x'"]),
    ("reward.terms", "x", ["config.reward.terms is 'x'", "a tuple"]),
    ("policy.start", "last", ["config.policy.start is 'last'", "'base' or 'previous'"]),
    ("policy.reference", "x", ["config.policy.reference", "'round_start' or 'initial'"]),
    ("policy.dpo.pairs", "x", ["config.policy.dpo.pairs", "'best_worst', 'best_rest' or 'all'"]),
    # Ranges.
    ("seed", -1, ["config.seed is -1", "at least 0"]),
    ("rounds", -1, ["config.rounds is -1", "at least 0"]),
    ("model.shape.layers", 0, ["config.model.shape.layers is 0", "at least 1"]),
    ("model.shape.rope_theta", 0.0, ["config.model.shape.rope_theta is 0.0", "above 0"]),
    ("data.num_golden", 0, ["config.data.num_golden is 0", "at least 1"]),
    ("supervised.epochs", -1, ["config.supervised.epochs is -1", "at least 0"]),
    ("reward.base.learning_rate", 0, ["config.reward.base.learning_rate is 0.0", "above 0"]),
    ("reward.training.batch_size", 0, ["config.reward.training.batch_size is 0", "at least 1"]),
    ("policy.training.beta2", 1.0, ["config.policy.training.beta2 is 1.0", "below 1"]),
    ("policy.training.weight_decay", -0.1, ["config.policy.training.weight_decay is -0.1"]),
    ("policy.training.clip_norm", 0.0, ["config.policy.training.clip_norm is 0.0", "above 0"]),
    ("reward.apo.golden_coefficient", -1.0, ["config.reward.apo.golden_coefficient is -1.0"]),
    # Also of a loss that is not chosen.
    ("policy.rrhf.sft_coefficient", -1.0, ["config.policy.rrhf.sft_coefficient is -1.0"]),
    ("policy.dpo.beta", 0.0, ["config.policy.dpo.beta is 0.0", "above 0"]),
    ("sampling.training.temperature", -1.0, ["config.sampling.training.temperature is -1.0"]),
    ("sampling.training.top_k", -1, ["config.sampling.training.top_k is -1", "at least 0"]),
    ("sampling.training.top_p", 0.0, ["config.sampling.training.top_p is 0.0", "at most 1"]),
    ("sampling.evaluation.top_p", 1.5, ["config.sampling.evaluation.top_p is 1.5", "at most 1"]),
    ("sampling.evaluation.num_samples", 0, ["config.sampling.evaluation.num_samples is 0"]),
    ("evaluation.calibration_bins", 0, ["config.evaluation.calibration_bins is 0"]),
    ("checkpoints.keep", 0, ["config.checkpoints.keep is 0", "at least 1"]),
    ("mesh.data", 0, ["config.mesh.data is 0", "at least 1, or -1 to fill"]),
    ("mesh.tensor", -2, ["config.mesh.tensor is -2", "at least 1, or -1 to fill"]),
    # Fields at odds with one another.
    (
      "model.shape.kv_heads",
      3,
      ["config.model.shape.kv_heads is 3", "config.model.shape.heads, which is 4"],
    ),
    ("model.shape.head_dim", 25, ["config.model.shape.head_dim is 25", "even"]),
    ("tokenizer.vocab_size", 258, ["config.tokenizer.vocab_size is 258", "at least 259"]),
    ("data.query_buckets", (), ["config.data.query_buckets is ()", "which is 30"]),
    ("data.query_buckets", (30, 24), ["config.data.query_buckets is (30, 24)", "ascend"]),
    ("data.query_buckets", (30, 30), ["config.data.query_buckets is (30, 30)", "ascend"]),
    ("data.query_buckets", (24, 40), ["config.data.query_buckets is (24, 40)", "which is 30"]),
    (
      "policy.training.accumulation",
      3,
      ["config.policy.training.batch_size is 32", "config.policy.training.accumulation", "is 3"],
    ),
    (
      "reward.preference_batch_size",
      0,
      ["config.reward.preference_batch_size is 0", "at least 1"],
    ),
    (
      "sampling.training.num_samples",
      1,
      ["config.sampling.training.num_samples is 1", "at least 2", "'dpo'"],
    ),
    ("policy.replay", (0.5, 1.5), ["config.policy.replay[1] is 1.5", "at most 1"]),
    ("policy.selections", ("rsp",), ["config.policy.selections", "'rsp'", "'rso'"]),
    (
      "sampling.training.temperature",
      0.0,
      ["config.sampling.training.temperature is 0.0", "equal", "'dpo'"],
    ),
    ("sampling.training.top_k", 1, ["config.sampling.training.top_k is 1", "equal", "'dpo'"]),
    ("sampling.evaluation.stop", ("",), ["config.sampling.evaluation.stop[0] is ''", "not empty"]),
    ("data.row_length", 0, ["config.data.row_length is 0", "at least 1"]),
    ("data.row_length", 53, ["config.data.row_length is 53", "at least 54", "max_new_tokens, 23"]),
    ("policy.unfinished", "best", ["config.policy.unfinished is 'best'", "'never_best', 'as_is'"]),
    ("supervised.over_tokens", "max", ["config.supervised.over_tokens is 'max'", "'mean' or 'su"]),
    ("mesh.fsdp", -1, ["config.mesh.data and config.mesh.fsdp are -1", "at most one"]),
    ("data.row_buckets", (40, 20), ["config.data.row_buckets is (40, 20)", "ascend"]),
    ("data.on_bad_row", "drop", ["config.data.on_bad_row is 'drop'", "'skip' or 'error'"]),
    # Adapters and checkpoints.
    ("policy.lora.rank", 8, ["config.policy.lora.rank is 8", "config.model.checkpoint is ''"]),
    ("reward.lora.rank", 8, ["config.reward.lora.rank is 8", "config.model.checkpoint is ''"]),
    ("policy.lora.rank", -1, ["config.policy.lora.rank is -1", "at least 0"]),
    ("policy.lora.dropout", 1.0, ["config.policy.lora.dropout is 1.0", "below 1"]),
    ("policy.lora.modules", ("key", "head"), ["config.policy.lora.modules[1] is 'head'"]),
    ("policy.lora.modules", ("key", "key"), ["config.policy.lora.modules is", "only once"]),
    ("model.shape", None, ["config.model.checkpoint is ''", "config.model.shape is missing"]),
    ("data.source", "files", ["config.data.demonstrations is ''", "'files'", "epochs above 0"]),
  ],
)
def test_a_wrong_value_fails_with_its_field_its_value_and_what_is_allowed(path, value, fragments):
  config = load("demo")
  override(config, {path: value})
  with pytest.raises(ConfigError) as error:
    from_config_dict(config)
  message = str(error.value)
  for fragment in fragments:
    assert fragment in message
  assert message.endswith(".")
  assert "\n" not in message


@pytest.mark.parametrize(
  ("path", "value", "fragments"),
  [
    ("policy.losss", "rjs", ["config.policy.losss is 'rjs'", "did you mean config.policy.loss?"]),
    ("policy.rjs.beta", 0.1, ["config.policy.rjs.beta is 0.1", "no such field"]),
    ("sede", 1, ["config.sede is 1", "did you mean config.seed?"]),
    ("mesh.xyzzy", 1, ["config.mesh.xyzzy is 1", "known are data, fsdp, tensor."]),
    ("optimizer", {"a": 1}, ["config.optimizer is a group of fields", "no such field"]),
  ],
)
def test_an_unknown_field_fails_with_the_nearest_known_name(path, value, fragments):
  config = load("demo")
  override(config, {path: value})
  with pytest.raises(ConfigError) as error:
    from_config_dict(config)
  for fragment in fragments:
    assert fragment in str(error.value)


@pytest.mark.parametrize(
  ("group", "name", "message"),
  [
    ("policy.dpo", "beta", "config.policy.dpo.beta is missing; it must be a float above 0."),
    (
      "policy.dpo",
      "pairs",
      "config.policy.dpo.pairs is missing; it must be 'best_worst', 'best_rest' or 'all'.",
    ),
    ("policy", "dpo", "config.policy.dpo is missing; it must be the fields of what is chosen."),
    ("policy", "loss", f"config.policy.loss is missing; it must be {LOSSES}."),
    ("policy", "training", "config.policy.training is missing; it must be a ConfigDict of fields."),
  ],
)
def test_a_missing_field_fails_with_what_it_must_be(group, name, message):
  config = load("demo")
  above = config
  for part in group.split("."):
    above = above[part]
  del above[name]
  with pytest.raises(ConfigError) as error:
    from_config_dict(config)
  assert str(error.value) == message


def test_preferences_of_a_round_are_cut_into_the_rounds_micro_batches():
  with pytest.raises(
    ConfigError, match=r"preference_batch_size is 30.*training\.accumulation, which is 4"
  ):
    demo(reward__preference_batch_size=30, reward__training__accumulation=4)


def test_a_checkpoint_needs_no_shape_and_allows_adapters():
  config = demo(
    model__checkpoint="a/model", model__shape=None, policy__lora__rank=4, reward__lora__rank=2
  )
  assert config.model.shape is None
  assert config.policy.lora == LoraConfig(
    4, 16.0, 0.0, ("query", "key", "value", "output", "gate", "up", "down")
  )
  assert round_trip(config) == config


def test_adapters_need_modules():
  with pytest.raises(ConfigError, match=r"config\.reward\.lora\.modules is empty"):
    demo(model__checkpoint="a/model", reward__lora__rank=2, reward__lora__modules=())


def test_a_reward_checkpoint_allows_the_reward_adapters_alone():
  assert demo(reward__checkpoint="a/reward", reward__lora__rank=2).reward.lora.rank == 2
  with pytest.raises(ConfigError, match=r"config\.policy\.lora\.rank is 2"):
    demo(reward__checkpoint="a/reward", policy__lora__rank=2)


SHAPE = {"layers": 1, "embed_dim": 16, "heads": 2, "kv_heads": 1, "head_dim": 8, "mlp_dim": 32}


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (
      {"shape": SHAPE, "checkpoint": "some/classifier"},
      r"config\.testing_reward\.checkpoint is 'some/classifier' beside .*\.shape; give one",
    ),
    (
      {"shape": SHAPE | {"kv_heads": 4}},
      r"config\.testing_reward\.shape\.kv_heads is 4; it must divide .*\.heads, which is 2",
    ),
    ({"shape": SHAPE | {"head_dim": 7}}, r"config\.testing_reward\.shape\.head_dim is 7"),
    (
      {"training": {"batch_size": 10, "accumulation": 4}},
      r"config\.testing_reward\.training\.batch_size is 10; it must be a multiple",
    ),
    ({"training": {"epochs": 0}}, r"config\.testing_reward\.training\.epochs is 0; .* at random"),
    (
      {"shape": SHAPE, "training": {"epochs": 0}},
      r"config\.testing_reward\.training\.epochs is 0; .* at random",
    ),
    ({"preferences": "reward"}, r"config\.testing_reward\.preferences is 'reward'"),
  ],
)
def test_a_judge_without_a_sound_start_is_refused(overrides, message):
  with pytest.raises(ConfigError, match=message):
    judge(**overrides)


def test_a_trunk_of_its_own_needs_demonstrations():
  with pytest.raises(
    ConfigError, match=r"config\.supervised\.epochs is 0; .*testing_reward\.shape"
  ):
    judge(shape=SHAPE, supervised__epochs=0)


def test_a_judges_checkpoint_may_be_used_as_it_is():
  made = judge(checkpoint="some/classifier", training={"epochs": 0})
  assert made.testing_reward.training.epochs == 0 and made.testing_reward.has_own_start
  assert judge(training={"epochs": 0}, reward__checkpoint="some/classifier")
  assert demo().testing_reward.has_own_start and not judge().testing_reward.has_own_start
  assert round_trip(judge(shape=SHAPE)) == judge(shape=SHAPE)


def judge(
  shape: dict[str, int] | None = None, training: dict[str, int] | None = None, **overrides: Any
) -> Config:
  """The demo with another judge: names of its fields, or others of the config with `__`."""
  given = {
    name if "__" in name else f"testing_reward__{name}": value for name, value in overrides.items()
  }
  given["testing_reward__shape"] = None if shape is None else section(ShapeConfig(**shape))
  if training is not None:
    given["testing_reward__training"] = section(TrainingConfig(**training))
  return demo(**given)


def test_one_sample_is_enough_for_rejection_sampling_alone():
  assert demo(policy__loss="rjs", sampling__training__num_samples=1).policy.loss.name == "rjs"
  with pytest.raises(ConfigError, match=r"num_samples is 1.*'rrhf'"):
    demo(policy__loss="rrhf", sampling__training__num_samples=1)


def test_one_sample_is_enough_for_labels_that_compare_no_two_of_a_query():
  chosen = {"policy__loss": "kto", "sampling__training__num_samples": 1}
  assert demo(**chosen, policy__kto__baseline="batch").policy.loss.across_queries
  with pytest.raises(ConfigError, match=r"num_samples is 1; .* with config.policy.loss 'kto'"):
    demo(**chosen)


@pytest.mark.parametrize("loss", ["sppo", "dno", "dno_prct"])
@pytest.mark.parametrize(
  ("field", "given", "wanted"),
  [("reference", "initial", "round_start"), ("start", "base", "previous")],
)
def test_a_loss_of_self_play_wants_the_policy_that_drew_its_samples(loss, field, given, wanted):
  demo(policy__loss=loss)
  demo(policy__loss="dpo", **{f"policy__{field}": given})
  said = f"config.policy.{field} is '{given}'; it must be '{wanted}' with config.policy.loss"
  with pytest.raises(ConfigError, match=f"{said} '{loss}', whose reference is the policy that"):
    demo(policy__loss=loss, **{f"policy__{field}": given})


def test_a_mean_over_the_batch_has_no_micro_batches():
  accumulated = {"policy__training__accumulation": 2}
  demo(policy__loss="dpo", **accumulated)
  with pytest.raises(ConfigError, match=r"accumulation is 2; it must be 1 with .* 'kto', which"):
    demo(policy__loss="kto", **accumulated)


def test_wandb_needs_a_project_only_when_it_is_on():
  assert demo(logging__wandb_project="").logging.wandb_project == ""
  with pytest.raises(ConfigError, match=r"config\.logging\.wandb_project is ''"):
    demo(logging__wandb=True, logging__wandb_project="")


def test_a_tokenizer_from_a_path_may_have_any_size():
  assert demo(tokenizer__path="gpt2", tokenizer__vocab_size=100).tokenizer.vocab_size == 100


@pytest.mark.parametrize("name", ["demonstrations", "preferences", "golden", "queries"])
def test_a_file_that_is_not_there_fails_with_its_field_and_path(llama, name):
  llama.data[name] = "nowhere/hh.jsonl"
  with pytest.raises(ConfigError) as error:
    from_config_dict(llama)
  assert f"config.data.{name} is 'nowhere/hh.jsonl'" in str(error.value)


@pytest.mark.parametrize("name", ["preferences", "golden", "queries"])
def test_a_file_that_is_not_named_fails(llama, name):
  llama.data[name] = ""
  with pytest.raises(ConfigError, match=f"config.data.{name} is ''; it must be a path or URI"):
    from_config_dict(llama)


def test_demonstrations_are_needed_only_to_train_on(llama):
  llama.data.demonstrations = ""
  with pytest.raises(ConfigError, match=r"config\.data\.demonstrations is ''"):
    from_config_dict(llama)
  llama.supervised.epochs = 0
  assert from_config_dict(llama).data.demonstrations == ""


def test_uris_and_derived_data_are_no_files_to_look_for(llama):
  llama.data.preferences = "gs://bucket/preferences.jsonl"
  llama.data.golden = "chosen"
  llama.data.queries = "preferences"
  assert from_config_dict(llama).data.golden == "chosen"


@pytest.mark.parametrize("name", ["demonstrations", "preferences", "golden", "queries", "test"])
def test_embedded_data_have_sizes(name):
  with pytest.raises(ConfigError, match=rf"config\.data\.num_{name} is 0; it must be at least 1"):
    demo(**{f"data__num_{name}": 0})


@pytest.mark.parametrize(
  ("axes", "num_devices", "expected"),
  [
    ((-1, 1, 1), 1, (1, 1, 1)),
    ((-1, 2, 2), 8, (2, 2, 2)),
    ((2, -1, 1), 8, (2, 4, 1)),
    ((2, 2, -1), 4, (2, 2, 1)),
    ((2, 2, 2), 8, (2, 2, 2)),
  ],
)
def test_resolve_mesh_uses_every_device(axes, num_devices, expected):
  data, fsdp, tensor = axes
  config = demo(mesh__data=data, mesh__fsdp=fsdp, mesh__tensor=tensor)
  assert resolve_mesh(config, num_devices) == MeshConfig(*expected)


@pytest.mark.parametrize(
  ("axes", "num_devices", "fragments"),
  [
    ((-1, 3, 1), 8, ["config.mesh.data cannot be filled", "product 3", "the 8 devices there are"]),
    ((-1, 4, 4), 8, ["data -1, fsdp 4, tensor 4", "product 16", "the 8 devices there are"]),
    ((2, 2, 1), 8, ["data 2, fsdp 2, tensor 1, which is 4 devices", "the 8 devices there are"]),
    ((2, 2, 1), 1, ["which is 4 devices", "the 1 devices there are"]),
  ],
)
def test_resolve_mesh_says_how_many_devices_there_are(axes, num_devices, fragments):
  data, fsdp, tensor = axes
  config = demo(mesh__data=data, mesh__fsdp=fsdp, mesh__tensor=tensor)
  with pytest.raises(ConfigError) as error:
    resolve_mesh(config, num_devices)
  for fragment in fragments:
    assert fragment in str(error.value)


def test_resolve_mesh_gives_every_slice_its_part_of_the_data_axis():
  config = demo(mesh__data=-1, mesh__fsdp=4)
  assert resolve_mesh(config, 32, slices=2) == MeshConfig(8, 4, 1)
  config = demo(mesh__data=1, mesh__fsdp=-1)
  with pytest.raises(
    ConfigError, match=r"config\.mesh\.data is 1; .* multiple of the 2 TPU slices"
  ):
    resolve_mesh(config, 32, slices=2)


@pytest.mark.parametrize("axes", [(1, 1, 1), (8, 1, 1), (2, 4, 1), (1, 4, 2)])
def test_check_mesh_accepts_what_divides(axes):
  check_mesh(demo(), split_sizes(demo()), MeshConfig(*axes))


@pytest.mark.parametrize(
  ("overrides", "axes", "fragments"),
  [
    ({"supervised__batch_size": 60}, (8, 1, 1), ["supervised.batch_size is 60", "= 8", "with 64"]),
    ({"reward__base__batch_size": 6}, (2, 2, 1), ["reward.base.batch_size is 6", "= 4", "with 8"]),
    (
      {"reward__training__batch_size": 36},
      (8, 1, 1),
      ["config.reward.training.batch_size is 36", "with 40"],
    ),
    (
      {"policy__training__batch_size": 32, "policy__training__accumulation": 8},
      (8, 1, 1),
      ["config.policy.training.batch_size is 32", "each of its 8 micro-batches", "with 64"],
    ),
    (
      {"reward__preference_batch_size": 20},
      (8, 1, 1),
      ["config.reward.preference_batch_size is 20", "with 24"],
    ),
    ({"sampling__batch_size": 7}, (2, 1, 1), ["config.sampling.batch_size is 7", "with 8"]),
    ({"evaluation__batch_size": 7}, (1, 2, 1), ["config.evaluation.batch_size is 7", "with 8"]),
    ({}, (-1, 1, 1), ["config.mesh is", "resolve_mesh"]),
  ],
)
def test_check_mesh_names_the_batch_that_does_not_divide_and_what_would(overrides, axes, fragments):
  config = demo(**overrides)
  with pytest.raises(ConfigError) as error:
    check_mesh(config, split_sizes(config), MeshConfig(*axes))
  for fragment in fragments:
    assert fragment in str(error.value)


@pytest.mark.parametrize(
  ("changes", "axes", "fragments"),
  [
    ({"embed_dim": 97}, (1, 2, 1), ["config.model has embed_dim = 97", "fsdp = 2", "with 98"]),
    ({"heads": 6, "kv_heads": 6}, (1, 1, 4), ["has heads = 6", "tensor = 4", "with 8"]),
    ({}, (1, 1, 4), ["has kv_heads = 2", "tensor = 4", "with 4"]),
    ({"mlp_dim": 255}, (1, 1, 2), ["has mlp_dim = 255", "tensor = 2", "with 256"]),
    (
      {"heads": 3, "kv_heads": 3, "mlp_dim": 255},
      (1, 1, 3),
      ["config.model has vocab_rows = 512", "tensor = 3", "with 513"],
    ),
  ],
)
def test_check_mesh_names_the_weight_that_does_not_divide_and_what_would(changes, axes, fragments):
  with pytest.raises(ConfigError) as error:
    check_mesh(demo(), split_sizes(demo(), **changes), MeshConfig(*axes))
  for fragment in fragments:
    assert fragment in str(error.value)


@pytest.mark.parametrize(("size", "rows"), [(1, 128), (128, 128), (129, 256), (32000, 32000)])
def test_the_vocabulary_is_rounded_up_to_a_multiple_of_128(size, rows):
  assert architecture(demo(), vocab_size=size).vocab_rows == rows


def test_a_loss_brings_its_own_hyper_parameters():
  config = demo(policy__loss="rrhf", policy__rrhf__sft_coefficient=0.1)
  assert config.policy.loss == RRHF(ranking_coefficient=0.1, sft_coefficient=0.1)
  # What is not chosen is no part of the run: another version may not have it.
  assert to_dict(config)["policy"].keys() >= {"loss", "rrhf"}
  assert "dpo" not in to_dict(config)["policy"]
  assert round_trip(config) == config


def test_the_base_has_every_field_and_every_choice():
  base = base_config()
  assert set(base) == {field.name for field in dataclasses.fields(Config)}
  assert {"loss", "dpo", "rjs", "rrhf"} <= set(base.policy)
  assert base.policy.rrhf.sft_coefficient == 1.0
  assert section(LoraConfig()) == base.policy.lora


def test_config_json_says_its_format():
  written = to_json(demo())
  assert written["format"] == FORMAT
  assert fields_of_json(written, "runs/one") == to_dict(demo())
  for known, found in ((to_dict(demo()), 1), ({"format": 99}, 99)):
    with pytest.raises(ConfigError, match=rf"runs/one has format {found}, .* reads {FORMAT}"):
      fields_of_json(known, "runs/one")
  for known in ([], None, "text"):
    with pytest.raises(ConfigError, match=r"of runs/one holds .*; it must hold the fields"):
      fields_of_json(known, "runs/one")


def test_fields_that_an_older_run_does_not_know_have_their_defaults():
  older = to_json(demo())
  del older["policy"]["replay"], older["policy"]["dpo"]["pairs"], older["health"]
  del older["reward"]["weighting"], older["reward"]["fixed"]
  assert fields_of_json(older, "runs/one") == to_dict(demo())
  older["policy"]["dpo"]["beta"] = 0.7
  assert fields_of_json(older, "runs/one") == to_dict(demo(policy__dpo__beta=0.7))


def test_smollm2_comes_in_two_sizes():
  small, full = (load("smollm2_hh", size) for size in ("small", "full"))
  assert (small.data.num_golden, full.data.num_golden) == (32, 0)
  assert small == load("smollm2_hh")
  with pytest.raises(ValueError, match=r"smollm2_hh\.py:big: it must be small or full"):
    load("smollm2_hh", "big")


@pytest.mark.parametrize("name", ["demo", "llama_7b_hh", "smollm2_hh"])
def test_a_flag_can_set_every_field(name):
  """ConfigDict has methods (update, keys, get); a field of such a name would hide from its flag."""
  config = load(name)

  def check(section: ml_collections.ConfigDict, above: str) -> None:
    for field in section:
      assert config_path.get_value(f"{above}{field}", config) == section[field]
      if isinstance(section[field], ml_collections.ConfigDict):
        check(section[field], f"{above}{field}.")

  check(config, "")


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    (
      {"policy__loss": "spin", "policy__reference": "initial"},
      ["config.policy.reference is 'initial'", "'round_start'", "'spin'"],
    ),
    (
      {"policy__loss": "spin", "policy__start": "base"},
      ["config.policy.start is 'base'", "'previous'", "'spin'"],
    ),
    (
      {"policy__loss": "relative_po", "policy__training__accumulation": 2},
      ["config.policy.training.accumulation is 2", "must be 1", "'relative_po'"],
    ),
    (
      {"policy__loss": "sequential_po", "checkpoints__keep": 1},
      ["config.checkpoints.keep is 1", "at least 2", "'sequential_po'"],
    ),
    (
      {"policy__selections": ("rso",), "policy__rso__number": 1},
      ["config.policy.selections leaves 1 sample", "'rso'", "at least 2", "'dpo'"],
    ),
    (
      {"policy__shapings": ("contrastive",)},
      [
        "config.policy.shapings has 'contrastive'",
        "'dpo'",
        "would not change",
        "within a query alone",
      ],
    ),
    (
      {"policy__shapings": ("contrastive",), "policy__loss": "sppo"},
      ["config.policy.shapings has 'contrastive'", "'sppo'", "would not change"],
    ),
    (
      {"policy__shapings": ("missing_end", "par"), "policy__loss": "rjs"},
      ["config.policy.shapings has 'par'", "'rjs'", "would not change", "order"],
    ),
  ],
  ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_a_loss_asks_of_other_fields(changes, words):
  with pytest.raises(ConfigError) as caught:
    demo(**changes)
  assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_loss_without_rewards_leaves_the_reward_model_as_it_is():
  assert demo(policy__loss="spin").reward.mode == "fixed"
  assert demo(policy__loss="dpo").reward.mode == "adversarial"
  # One sample is enough: it is held against the golden response.
  assert demo(policy__loss="spin", sampling__training__num_samples=1).reward.mode == "fixed"


def test_a_shaping_that_the_loss_sees_is_taken():
  config = demo(policy__shapings=("contrastive",), policy__loss="kto", policy__kto__baseline="zero")
  assert config.policy.reads_baselines and not config.policy.reads_embeddings
  assert demo(policy__shapings=("par",), policy__loss="sppo").policy.reads_baselines
  assert demo(policy__shapings=("advpo",)).policy.reads_embeddings
