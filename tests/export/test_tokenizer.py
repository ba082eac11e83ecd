"""Padding, chat template and generation config of exported models."""

import dataclasses

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data.tokens import Codec, load_tokenizer, make_codec
from apo_jax.export.tokenizer import (
  export_tokenizer,
  generation_config,
  policy_padding,
  reward_padding,
)
from tests import checkpoints, tiny

TEMPLATE = (
  "{{ bos_token }}{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '\n' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def chat_tokenizer(tmp_path_factory):
  """Has a template of its own, and pads with eos."""
  directory = checkpoints.write(tmp_path_factory.mktemp("checkpoint") / "model")
  return load_tokenizer(directory, "the checkpoint")


def chat_codec(tokenizer, **overrides: object) -> Codec:
  lengths = {"data__query_length": 48, "data__query_buckets": (48,), "data__row_length": 72}
  return make_codec(tokenizer, tiny.config(**lengths, **overrides), checkpoints.VOCABULARY)


def test_eos_pooling_pads_with_another_token_than_eos(chat_tokenizer):
  codec = tiny.codec()
  assert reward_padding(codec, "eos") == codec.tokenizer.pad_token_id != codec.eos
  codec = chat_codec(chat_tokenizer)
  assert codec.tokenizer.pad_token_id == codec.eos
  padding = reward_padding(codec, "eos")
  # Its own padding token is eos, bos stands at the front: "<pad>" is what is left.
  assert codec.tokenizer.convert_ids_to_tokens(padding) == "<pad>"
  assert export_tokenizer(codec, tiny.config(), padding).pad_token_id == padding
  assert codec.tokenizer.pad_token_id == codec.eos  # the run's own is as it was


@pytest.mark.parametrize("pooling", ["last", "eos"])
def test_a_classifier_reads_the_token_that_the_pooling_reads(chat_tokenizer, pooling):
  """As transformers finds it: the last token that is not padding."""
  for codec in (tiny.codec(), chat_codec(chat_tokenizer)):
    padding = reward_padding(codec, pooling)
    sequence = [codec.bos, 300, 301, 302, codec.eos]
    expected = 4 if pooling == "eos" else 3
    for row in (sequence, [*sequence, padding, padding], [padding, padding, *sequence]):
      first = row.index(300) - 1
      read = max(place for place, token in enumerate(row) if token != padding)
      assert read - first == expected


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_other_poolings_are_refused(pooling):
  with pytest.raises(ConfigError, match=rf"config\.reward\.pooling is '{pooling}'"):
    reward_padding(tiny.codec(), pooling)


def test_the_template_is_the_run_s(chat_tokenizer):
  def template(chat_template: str) -> str:
    codec = chat_codec(chat_tokenizer, data__chat_template=chat_template)
    config = tiny.config(data__chat_template=chat_template)
    return export_tokenizer(codec, config, policy_padding(codec)).chat_template

  assert template("") == checkpoints.CHATML
  assert template(TEMPLATE) == TEMPLATE
  hh = template("hh")  # though the tokenizer has another
  assert "Human" in hh and "Assistant" in hh


def test_the_separator_stands_between_query_and_response():
  config = tiny.config(data__separator="<bos>")
  codec = make_codec(tiny.codec().tokenizer, config, tiny.codec().size)
  exported = export_tokenizer(codec, config, policy_padding(codec))
  question = [{"role": "user", "content": "Why?"}]
  asked = exported.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
  assert asked == "<bos>\n\nHuman: Why?\n\nAssistant:<bos>"
  answered = [*question, {"role": "assistant", "content": "So."}]
  assert exported.apply_chat_template(answered, tokenize=False) == f"{asked} So.<eos>"
  ids = exported(asked, add_special_tokens=False)["input_ids"]
  assert [ids] == codec.encode_queries(["\n\nHuman: Why?\n\nAssistant:"])


def test_greedy_evaluation_has_no_sampler_settings():
  codec = tiny.codec()
  config = tiny.config(sampling__evaluation__temperature=0.0)
  settings = generation_config(codec, config, 0)
  assert not settings["do_sample"] and not {"temperature", "top_k", "top_p"} & settings.keys()


def test_every_end_ends_a_response_and_the_end_of_turn_comes_first():
  form, ends = tiny.codec().form._replace(eos=17), frozenset({2, 17, 30})
  codec = dataclasses.replace(tiny.codec(), form=form, ends=ends)
  assert generation_config(codec, tiny.config(), 0)["eos_token_id"] == [17, 2, 30]


def test_a_policy_without_padding_token_pads_with_eos(chat_tokenizer):
  assert policy_padding(tiny.codec()) == tiny.codec().tokenizer.pad_token_id
  codec = chat_codec(chat_tokenizer)
  assert policy_padding(codec) == codec.eos
