"""The codec of a run that starts from a checkpoint."""

import contextlib
import dataclasses
import json

import pytest
import tokenizers
import transformers

from apo_jax.config.fields import ConfigError
from apo_jax.data.records import GameData, Split
from apo_jax.data.tokens import load_tokenizer
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.models.hugging_face.checkpoint import GENERATION_FILE
from apo_jax.run.origins import find_origins
from apo_jax.run.tokenizer import (
  load_own_tokenizer,
  make_run_codec,
  make_tokenizer,
  shared_tokenizer,
  write_tokenizer_hashes,
)
from tests import checkpoints, tiny

# The tokenizer is read, not trained.
NO_SPLIT = Split((), (), ())
NO_DATA = GameData((), NO_SPLIT, NO_SPLIT, NO_SPLIT)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  return checkpoints.write(tmp_path_factory.mktemp("checkpoint") / "model", chat_template=None)


def codec_of(checkpoint, content):
  (checkpoint / GENERATION_FILE).write_text(content)
  config = tiny.config(model__checkpoint=str(checkpoint))
  return make_run_codec(load_tokenizer(checkpoint, "it"), config, find_origins(config))


@pytest.mark.parametrize(
  ("named", "ends"),
  [([2, 300], {2, 300}), (300, {2, 300}), (None, {2}), ([300, 330, 9_999, -1], {2, 300})],
)
def test_what_the_generation_config_names_ends_a_response(checkpoint, named, ends):
  """Besides the tokenizer's eos, 2; the model has 330 ids."""
  codec = codec_of(checkpoint, json.dumps({"eos_token_id": named, "pad_token_id": 0}))
  assert codec.ends == ends and codec.eos == 2


def test_a_checkpoint_without_generation_config_has_the_tokenizer_s_end(checkpoint):
  codec_of(checkpoint, "{}")
  (checkpoint / GENERATION_FILE).unlink()
  config = tiny.config(model__checkpoint=str(checkpoint))
  codec = make_run_codec(load_tokenizer(checkpoint, "it"), config, find_origins(config))
  assert codec.ends == {2} and codec.never_drawn == {0, 1}


@pytest.mark.parametrize(
  ("content", "complaint"),
  [
    ('{"eos_token_id": "</s>"}', r"has eos_token_id '</s>'; supported: an id, a list of ids"),
    ('{"eos_token_id": [2, true]}', r"has eos_token_id \[2, True\]"),
    ("[2]", "is no JSON object"),
    ("{", "is not JSON"),
  ],
)
def test_a_generation_config_that_names_no_ids_is_refused(checkpoint, content, complaint):
  with pytest.raises(ConfigError, match=rf"config\.model\.checkpoint is .*json {complaint}"):
    codec_of(checkpoint, content)


@pytest.mark.parametrize(
  ("change", "named"),
  [
    (lambda place: (place / "tokenizer.json").write_text("{}"), "tokenizer.json"),
    (lambda place: (place / "tokenizer_config.json").unlink(), "tokenizer_config.json"),
    (lambda place: (place / "finished").write_text("{"), "finished"),
  ],
)
def test_a_run_s_own_tokenizer_that_has_changed_is_refused(tmp_path, change, named):
  directory = RunDirectory(tmp_path)
  tiny.codec().tokenizer.save_pretrained(directory.tokenizer)
  write_tokenizer_hashes(directory)
  assert load_own_tokenizer(directory).get_vocab() == tiny.codec().tokenizer.get_vocab()
  change(directory.tokenizer)
  with pytest.raises(ConfigError, match=rf"tokenizer/{named} has changed since the run"):
    load_own_tokenizer(directory)


def vocabulary(tokenizer, **special):
  """The tokenizer again, with other special tokens."""
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
    **{"bos_token": "<bos>", "eos_token": "<eos>"} | special,
  )


def run_with_reward(tmp_path, checkpoint, policy, reward):
  """`make_tokenizer` of a run whose reward checkpoint has a tokenizer of its own."""
  policy.save_pretrained(tmp_path / "policy")
  reward.save_pretrained(tmp_path / "reward")
  config = tiny.config(
    model__checkpoint=str(checkpoint),
    tokenizer__path=str(tmp_path / "policy"),
    reward__checkpoint=str(tmp_path / "reward"),
  )
  origins = find_origins(dataclasses.replace(config, reward=tiny.config().reward))
  judge = dataclasses.replace(origins.policy_checkpoint, directory=tmp_path / "reward")
  origins = dataclasses.replace(origins, reward_checkpoint=judge)
  return make_tokenizer(RunDirectory(tmp_path / "run"), config, origins, NO_DATA)


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    ({"pad_token": "<mine>"}, {}),
    ({}, {"pad_token": "<theirs>"}),
    ({"pad_token": "<mine>"}, {"pad_token": "<theirs>"}),
    ({"pad_token": "<mine>"}, {"pad_token": "<eos>"}),
  ],
)
def test_a_reward_checkpoint_may_pad_with_another_token(tmp_path, checkpoint, ours, theirs):
  plain = load_tokenizer(checkpoint, "it")
  policy, reward = vocabulary(plain, **ours), vocabulary(plain, **theirs)
  made = run_with_reward(tmp_path, checkpoint, policy, reward)
  assert made.get_vocab() == policy.get_vocab()


@pytest.mark.parametrize(
  ("ours", "template", "theirs", "message"),
  [
    # It ends responses too, the template writes it, or its id is a word of the other's.
    ({"pad_token": "<end>", "eos_token": "<end>"}, None, {}, "'<end>' is 330 in the one and not"),
    ({"pad_token": "<turn>"}, "{{ '<turn>' }}", {}, "'<turn>' is 330 in the one and not there"),
    ({"pad_token": "<mine>"}, None, {"extra_special_tokens": ["<word>"]}, "'<mine>' is 330"),
    (
      {"extra_special_tokens": ["<a>", "<b>"]},
      None,
      {"extra_special_tokens": ["<b>", "<a>"]},
      "331",
    ),
  ],
)
def test_a_reward_checkpoint_of_another_tokenizer_is_refused(
  tmp_path, checkpoint, ours, template, theirs, message
):
  plain = load_tokenizer(checkpoint, "it")
  policy = vocabulary(plain, **ours)
  policy.chat_template = template
  with pytest.raises(ConfigError, match=rf"config\.reward\.checkpoint is .*{message}"):
    run_with_reward(tmp_path, checkpoint, policy, vocabulary(plain, **theirs))


def test_code_that_a_tokenizer_brings_does_not_run(tmp_path, checkpoint):
  ran = tmp_path / "ran"
  load_tokenizer(checkpoint, "it").save_pretrained(tmp_path)
  (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
  config = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  with contextlib.suppress(ConfigError):  # read without the code, or refused
    load_tokenizer(tmp_path, "it")
  assert not ran.exists()


def test_a_tokenizer_of_another_place_brings_its_ends_into_the_run(checkpoint, tmp_path):
  (checkpoint / GENERATION_FILE).write_text('{"eos_token_id": [2, 300]}')
  config = tiny.config(tokenizer__path=str(checkpoint))
  origins = find_origins(config)
  tokenizer = load_tokenizer(checkpoint, "it")
  assert make_run_codec(tokenizer, config, origins).ends == {2, 300}
  with shared_tokenizer(RunDirectory(tmp_path / "run"), tokenizer) as own:
    assert make_run_codec(own, config, origins).ends == {2, 300}
