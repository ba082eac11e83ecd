"""The codec of a run that starts from a checkpoint."""

import json

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.tokens import load_tokenizer
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.models.hugging_face.config import GENERATION_FILE
from apo_jax.run.origins import find_origins
from apo_jax.run.tokenizer import make_run_codec, shared_tokenizer
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


def test_a_tokenizer_of_another_place_brings_its_ends_into_the_run(checkpoint, tmp_path):
  (checkpoint / GENERATION_FILE).write_text('{"eos_token_id": [2, 300]}')
  config = tiny.config(tokenizer__path=str(checkpoint))
  origins = find_origins(config)
  tokenizer = load_tokenizer(checkpoint, "it")
  assert make_run_codec(tokenizer, config, origins).ends == {2, 300}
  with shared_tokenizer(RunDirectory(tmp_path / "run"), tokenizer) as own:
    assert make_run_codec(own, config, origins).ends == {2, 300}
