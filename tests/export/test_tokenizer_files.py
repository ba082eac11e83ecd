"""Tokenizer files in the spelling that versions 4 and 5 of transformers share."""

import json

import tokenizers
import transformers

from apo_jax.export.tokenizer_files import portable_config, save_tokenizer
from tests import tiny

TEXT = "\n\nHuman: Why?<|im_end|> <think> So.<eos>"


def with_more_tokens() -> transformers.PreTrainedTokenizerBase:
  """The tests' tokenizer with special tokens beside the named ones, and one that is not special."""
  fast = tiny.codec().tokenizer.backend_tokenizer
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizers.Tokenizer.from_str(fast.to_str()),
    bos_token="<bos>",
    eos_token="<eos>",
    pad_token="<pad>",
    extra_special_tokens=["<|im_start|>", "<|im_end|>"],
  )
  tokenizer.add_tokens([tokenizers.AddedToken("<think>", special=False, normalized=False)])
  return tokenizer


def test_no_version_meets_a_name_that_it_does_not_know(tmp_path):
  save_tokenizer(with_more_tokens(), tmp_path)
  config = json.loads((tmp_path / "tokenizer_config.json").read_text())
  assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
  assert config["additional_special_tokens"] == ["<|im_start|>", "<|im_end|>"]
  # A list there ends version 4.
  assert not {"extra_special_tokens", "backend", "is_local", "local_files_only"} & config.keys()


def test_ids_and_special_tokens_stay(tmp_path):
  before = with_more_tokens()
  save_tokenizer(before, tmp_path)
  after = transformers.AutoTokenizer.from_pretrained(tmp_path)
  assert after(TEXT)["input_ids"] == before(TEXT)["input_ids"]
  assert set(after.all_special_ids) == set(before.all_special_ids)
  assert after.decode(after(TEXT)["input_ids"], skip_special_tokens=True) == (
    "\n\nHuman: Why? <think> So."
  )


def test_tokens_with_names_of_their_own_keep_them():
  config = {
    "model_specific_special_tokens": {"image_token": "<i>"},
    "extra_special_tokens": ["<a>"],
  }
  assert portable_config(config, is_fast=False) == {
    "additional_special_tokens": ["<a>"],
    "extra_special_tokens": {"image_token": "<i>"},
  }
  named = {"extra_special_tokens": {"image_token": "<i>"}, "tokenizer_class": "LlamaTokenizer"}
  assert portable_config(named, is_fast=False) == named


def test_a_sentencepiece_model_goes_along(tmp_path):
  for name in ("empty", "source", "out"):
    (tmp_path / name).mkdir()
  (tmp_path / "source" / "tokenizer.model").write_bytes(b"pieces")
  sources = (tmp_path / "empty", tmp_path / "source")
  save_tokenizer(tiny.codec().tokenizer, tmp_path / "out", sources)
  assert (tmp_path / "out" / "tokenizer.model").read_bytes() == b"pieces"
