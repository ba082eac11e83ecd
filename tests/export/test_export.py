"""The export of a run, as a user asks for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file

from apo_jax.config.fields import ConfigError
from apo_jax.data.tokens import load_tokenizer, make_codec
from apo_jax.export.run import export
from apo_jax.models.hugging_face.importing import (
  TensorFiles,
  import_decoder,
  import_reward_head,
)
from tests import checkpoints, finished_run, tiny
from tests.models.hugging_face import cases

CARD = "README.md"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
  """A run from random weights, its reward pooled at eos."""
  run_dir = tmp_path_factory.mktemp("random") / "run"
  finished_run.make(run_dir, reward__pooling="eos")
  return run_dir


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
  """A checkpoint whose tokenizer has a chat template, and pads with eos."""
  return checkpoints.write(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, base) -> Path:
  """A run with adapters, its reward pooled before eos."""
  run_dir = tmp_path_factory.mktemp("adapted") / "run"
  lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "modules": ("query", "down")}
  finished_run.make(
    run_dir,
    model__checkpoint=str(base),
    reward__pooling="last",
    **{f"{player}__lora__{name}": v for player in ("policy", "reward") for name, v in lora.items()},
  )
  return run_dir


def texts(directory: Path) -> dict[str, str]:
  return {
    path.name: path.read_text() for path in directory.iterdir() if path.suffix != ".safetensors"
  }


def test_a_policy_of_a_random_run(run, tmp_path):
  said = export(run, tmp_path / "out", player="policy")
  assert said == "The policy of round 1"
  assert {path.name for path in (tmp_path / "out").iterdir()} == {
    CARD,
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  }
  assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing temporary is left
  checkpoint = cases.read(tmp_path / "out")
  assert checkpoint.family == "llama" and not checkpoint.is_reward
  definition = finished_run.definition(tiny.config(), "01_policy")
  again = import_decoder(checkpoint, definition.abstract, cases.FIELD)
  for ours, theirs in zip(
    jax.tree.leaves(again),
    jax.tree.leaves(finished_run.trained("01_policy", definition)),
    strict=True,
  ):
    np.testing.assert_array_equal(ours, theirs)


def test_the_round_and_the_player_are_the_ones_asked_for(run, tmp_path):
  written = {}
  for player, round in (("policy", 0), ("policy", 1), ("reward", 0), ("testing_reward", 1)):
    output = tmp_path / f"{player}{round}"
    said = export(run, output, player=player, round=round)
    judge = "The testing_reward, the same in every round,"
    assert said == (judge if player == "testing_reward" else f"The {player} of round {round}")
    title = (output / CARD).read_text().split("# ")[1].splitlines()[0]
    assert title.endswith("testing reward model" if said == judge else f", round {round}")
    written[player, round] = load_file(output / "model.safetensors")["model.norm.weight"]
  names = ("00_supervised", "01_policy", "00_reward_base", "00_testing_reward")
  for norm, name in zip(written.values(), names, strict=True):
    definition = finished_run.definition(tiny.config(), name)
    parameters = finished_run.trained(name, definition)
    np.testing.assert_array_equal(norm, parameters.get("trunk", parameters)["final_norm"])


@pytest.mark.slow
def test_a_judge_of_its_own_shape_is_exported_with_that_shape(tmp_path):
  own = {"testing_reward__shape": tiny.JUDGE, "testing_reward__preferences": "policy"}
  config = finished_run.make(tmp_path / "run", **own)
  export(tmp_path / "run", tmp_path / "out", player="testing_reward")
  checkpoint = cases.read(tmp_path / "out")
  assert checkpoint.architecture.embed_dim == 16 and checkpoint.architecture.layers == 1
  definition = finished_run.definition(config, "00_testing_reward")
  trained = finished_run.trained("00_testing_reward", definition)
  head = import_reward_head(checkpoint, definition.abstract["reward_head"], cases.FIELD)
  np.testing.assert_array_equal(head, trained["reward_head"])
  card = (tmp_path / "out" / CARD).read_text()
  assert "weights started at random" in card and "the policy side's preferences" in card
  with pytest.raises(ConfigError, match=r"--adapter is given, but config\.testing_reward gives"):
    export(tmp_path / "run", tmp_path / "other", player="testing_reward", adapter=True)


def test_a_reward_model_reads_its_eos(run, tmp_path):
  export(run, tmp_path / "out", player="reward")
  checkpoint = cases.read(tmp_path / "out")
  assert checkpoint.is_reward
  assert checkpoint.hf_config["architectures"] == ["LlamaForSequenceClassification"]
  eos = tiny.codec().eos
  padding = checkpoint.hf_config["pad_token_id"]
  tokenizer = load_tokenizer(tmp_path / "out", "the export")
  assert padding == tokenizer.pad_token_id != eos
  definition = finished_run.definition(tiny.config(), "01_reward")
  head = import_reward_head(checkpoint, definition.abstract["reward_head"], cases.FIELD)
  trained = finished_run.trained("01_reward", definition)
  np.testing.assert_array_equal(head, trained["reward_head"])
  card = (tmp_path / "out" / CARD).read_text()
  assert "'<eos>'" in card and "ends with it" in card and "round 1" in card


def test_the_exported_template_writes_what_the_run_read(run, tmp_path):
  export(run, tmp_path / "out", player="reward")
  tokenizer = load_tokenizer(tmp_path / "out", "the export")
  codec = make_codec(tiny.codec().tokenizer, tiny.config(), 384)
  messages = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " How do plants grow?\n"},
    {"role": "assistant", "content": "Slowly."},
    {"role": "user", "content": "Why?"},
  ]
  query = "\n\nSystem: Be brief.\n\nHuman: How do plants grow?\n\nAssistant: Slowly.\n\nHuman: Why?"
  (expected,) = codec.form.query_ids([f"{query}\n\nAssistant:"])

  def ids(messages: list[dict[str, str]], **options: bool) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    return tokenizer(text, add_special_tokens=False)["input_ids"]

  assert ids(messages, add_generation_prompt=True) == expected
  (answer,) = codec.encode_responses([" Sun light."])
  whole = [*messages, {"role": "assistant", "content": "Sun light."}]
  assert ids(whole) == [*expected, *answer.tokens, codec.eos]


def test_generation_is_the_evaluation_s(run, tmp_path):
  export(run, tmp_path / "out", player="policy")
  generation = transformers.GenerationConfig.from_pretrained(tmp_path / "out")
  generation.validate(strict=True)
  sampler = tiny.config().sampling.evaluation
  assert generation.eos_token_id == [tiny.codec().eos]
  assert generation.do_sample == (sampler.temperature > 0)
  assert generation.max_new_tokens == sampler.max_new_tokens
  assert (generation.temperature, generation.top_p) == (sampler.temperature, sampler.top_p)
  assert generation.repetition_penalty == sampler.repetition_penalty
  # No limit, but neither 0, which vLLM has refused, nor -1, which transformers refuses.
  assert sampler.top_k == 0 and generation.top_k == tiny.codec().size


def test_adapters_are_merged_or_kept_apart(adapted, base, tmp_path):
  export(adapted, tmp_path / "merged", player="policy")
  said = export(adapted, tmp_path / "adapter", player="policy", adapter=True)
  assert said == "The policy of round 1, its adapters alone,"
  merged, frozen = (load_file(path / "model.safetensors") for path in (tmp_path / "merged", base))
  adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
  config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
  assert config["base_model_name_or_path"] == str(base)
  assert merged.keys() == frozen.keys()
  assert not (tmp_path / "adapter" / "config.json").exists()
  changed = {name for name in frozen if not np.array_equal(merged[name], frozen[name])}
  assert {name.split(".")[-2] for name in changed} == {"q_proj", "down_proj"}
  for name in changed:
    stem = f"base_model.model.{name.removesuffix('.weight')}"
    change = 4.0 / 2 * adapter[f"{stem}.lora_B.weight"] @ adapter[f"{stem}.lora_A.weight"]
    np.testing.assert_allclose(merged[name], frozen[name] + change, atol=1e-5)
  assert "AutoPeftModelForCausalLM" in (tmp_path / "adapter" / CARD).read_text()


@pytest.mark.parametrize("player", ["policy", "reward"])
def test_exported_adapters_are_read_as_the_merged_model(adapted, base, tmp_path, player):
  """As `model.checkpoint` and `reward.checkpoint`."""
  export(adapted, tmp_path / "merged", player=player)
  export(adapted, tmp_path / "adapter", player=player, adapter=True)
  merged, adapter = (cases.read(tmp_path / name) for name in ("merged", "adapter"))
  assert adapter.is_reward == merged.is_reward == (player == "reward")
  assert adapter.architecture == merged.architecture
  assert adapter.tokenizer_directory == adapter.generation_directory or player == "reward"
  assert adapter.tokenizer_directory == tmp_path / "adapter"
  files = TensorFiles(adapter, cases.FIELD)
  written = load_file(tmp_path / "merged" / "model.safetensors")
  for name, value in written.items():
    read = files.read(name, tuple(slice(0, size) for size in value.shape))
    np.testing.assert_allclose(read, value, atol=1e-6, err_msg=name)


def test_adapters_of_adapters_are_exported_whole_alone(adapted, tmp_path):
  export(adapted, tmp_path / "adapter", player="policy", adapter=True)
  run_dir = shutil.copytree(adapted, tmp_path / "run")
  config = json.loads((run_dir / "config.json").read_text())
  config["model"]["checkpoint"] = str(tmp_path / "adapter")
  (run_dir / "config.json").write_text(json.dumps(config))
  with pytest.raises(ConfigError, match=r"--adapter is given, but .*, which is adapters itself"):
    export(run_dir, tmp_path / "out", player="policy", adapter=True)
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("frozen_dtype", ["bfloat16", "int8", "nf4"])
@pytest.mark.parametrize("player", ["policy", "reward"])
def test_adapters_are_merged_into_the_checkpoint_s_own_weights(
  adapted, tmp_path, player, frozen_dtype
):
  """Whatever they were trained beside: as PEFT merges them into the checkpoint that it loads."""
  run_dir = shutil.copytree(adapted, tmp_path / "run")
  config = json.loads((run_dir / "config.json").read_text())
  config["model"]["frozen_dtype"] = frozen_dtype
  (run_dir / "config.json").write_text(json.dumps(config))
  for source, output in ((adapted, "exact"), (run_dir, "kept")):
    export(source, tmp_path / output, player=player)
  exact, kept = (tmp_path / name / "model.safetensors" for name in ("exact", "kept"))
  assert exact.read_bytes() == kept.read_bytes()


def test_a_reward_s_adapters_bring_its_head(adapted, tmp_path):
  export(adapted, tmp_path / "out", player="reward", adapter=True, dtype="bfloat16")
  adapter = load_file(tmp_path / "out" / "adapter_model.safetensors")
  assert adapter["base_model.model.score.weight"].dtype == "bfloat16"
  tokenizer = load_tokenizer(tmp_path / "out", "the export")
  assert tokenizer.chat_template == checkpoints.CHATML
  eos = tokenizer.pad_token_id
  assert eos == tokenizer.eos_token_id
  card = (tmp_path / "out" / CARD).read_text()
  assert f"num_labels=1, pad_token_id={eos}" in card and "without its eos" in card


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ({"round": 7}, ["--round is 7", "last finished is 1"]),
    ({"round": -1}, ["--round is -1"]),
    ({"adapter": True}, ["--adapter", "config.policy.lora.rank is 0"]),
    ({"player": "reward", "adapter": True}, ["--adapter", "config.reward.lora.rank is 0"]),
  ],
)
def test_what_there_is_not(run, tmp_path, arguments, said):
  with pytest.raises(ConfigError) as error:
    export(run, tmp_path / "out", **{"player": "policy"} | arguments)
  assert all(part in str(error.value) for part in said), error.value
  assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_pooling_over_all_tokens_cannot_be_expressed(tmp_path):
  finished_run.make(tmp_path / "run", reward__pooling="average")
  with pytest.raises(ConfigError, match=r"config\.reward\.pooling is 'average'.*'last' or 'eos'"):
    export(tmp_path / "run", tmp_path / "out", player="reward")
  assert not (tmp_path / "out").exists()


def test_an_output_that_is_there(run, tmp_path):
  (tmp_path / "empty").mkdir()
  export(run, tmp_path / "empty", player="policy")
  before = texts(tmp_path / "empty")
  with pytest.raises(ConfigError, match=r"--output is .*empty', which is there already"):
    export(run, tmp_path / "empty", player="reward")
  assert texts(tmp_path / "empty") == before
  (tmp_path / "file").write_text("")
  with pytest.raises(ConfigError, match=r"--output is .*file"):
    export(run, tmp_path / "file", player="policy")
  with pytest.raises(ConfigError, match=r"--output is .*cannot be used"):
    export(run, tmp_path / "file" / "below", player="policy")


def test_a_checkpoint_that_is_no_longer_kept(tmp_path):
  finished_run.make(tmp_path / "run")
  (tmp_path / "run/checkpoints/01_policy").rename(tmp_path / "gone")
  with pytest.raises(ConfigError, match="--round is 1, whose policy is no longer kept"):
    export(tmp_path / "run", tmp_path / "out", player="policy")


def command(*arguments: object) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    timeout=300,
  )


@pytest.mark.slow
def test_two_processes_write_what_one_writes(adapted, tmp_path):
  one, two = tmp_path / "one", tmp_path / "two"
  asked = [f"--run={adapted}", "--player=reward"]
  result = command("-m", "apo_jax.export", *asked, f"--output={one}")
  assert result.returncode == 0, result.stderr
  assert result.stdout == f"The reward of round 1 is in {one}; its README.md says how it is used.\n"
  result = command(
    "launch/local.py", "--processes=2", "--module=apo_jax.export", "--", *asked, f"--output={two}"
  )
  assert result.returncode == 0, result.stdout + result.stderr
  assert texts(one) == texts(two)
  ours, theirs = (load_file(path / "model.safetensors") for path in (two, one))
  assert ours.keys() == theirs.keys()
  for name in theirs:
    np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ([], "--run is missing"),
    (["--run=nowhere"], "--output is missing"),
    (["--run=nowhere", "--output=out"], "--run is 'nowhere', which holds no config.json"),
    (["--run=nowhere", "--output=out", "--player=golden"], "golden"),
    (["nowhere"], "'nowhere' is not a flag; did you mean --run=nowhere?"),
  ],
)
def test_wrong_flags_are_one_sentence(arguments, said):
  result = command("-m", "apo_jax.export", *arguments)
  assert result.returncode == 2
  (line,) = [line for line in result.stderr.splitlines() if line.strip()]
  assert said in line
  assert not (tiny.ROOT / "out").exists()
