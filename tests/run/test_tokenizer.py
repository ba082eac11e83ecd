"""The codec of a run that starts from a checkpoint."""

import json

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.tokens import load_tokenizer
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.models.hugging_face.config import GENERATION_FILE
from apo_jax.run.origins import find_origins
from apo_jax.run.tokenizer import load_own_tokenizer, make_run_codec, write_tokenizer_hashes
from tests import checkpoints, tiny


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
