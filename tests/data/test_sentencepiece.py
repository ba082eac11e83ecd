"""Checkpoints whose only tokenizer is sentencepiece's tokenizer.model."""

import importlib.util
import json

import pytest
import transformers

from apo_jax.config.fields import ConfigError
from apo_jax.data.tokens import load_tokenizer, make_codec
from tests import tiny

TEXTS = ("Who has the red ball?", "Ann has it, and  two blanks.", "\n\nHuman: The é is 42.\nYes.")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("names_class", [True, False])
def test_a_tokenizer_model_alone_gives_the_ids_of_sentencepiece(tmp_path, kind, names_class):
  sentencepiece = pytest.importorskip("sentencepiece", reason="needs sentencepiece")
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS * 20),
    model_prefix=str(tmp_path / "tokenizer"),
    vocab_size=320,
    model_type=kind,
    byte_fallback=True,
    hard_vocab_limit=False,
    # As Llama's: every blank and line break of a text stays.
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    minloglevel=2,
  )
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
  if names_class:
    named = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
  tokenizer = load_tokenizer(tmp_path, "config.model.checkpoint")
  own = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
  assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (own.bos_id(), own.eos_id())
  # The run directory keeps a copy, which is read again.
  tokenizer.save_pretrained(tmp_path / "run")
  for one in (tokenizer, load_tokenizer(tmp_path / "run", "the run directory's tokenizer")):
    for text in (*TEXTS, "unknown: ☃"):
      ids = one(text, add_special_tokens=False)["input_ids"]
      assert ids == own.encode(text) and one.decode(ids) == text
  codec = make_codec(tokenizer, tiny.config(), own.get_piece_size())
  (query,) = codec.encode_queries([TEXTS[2]])
  assert query == [own.bos_id(), *own.encode(TEXTS[2])] and codec.eos == own.eos_id()


def test_what_reads_a_tokenizer_model_is_named_where_it_is_missing(tmp_path, monkeypatch):
  def refuse(path, **options):
    raise ImportError("`tiktoken` is required to read a `tiktoken` file.")

  monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ConfigError, match=r"\(a tokenizer\.model is read by .* sentencepiece\)\.$"):
    load_tokenizer(tmp_path, "config.model.checkpoint")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_a_pointer_of_git_lfs_is_named(tmp_path, name):
  (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
  with pytest.raises(ConfigError, match=f"{name} is a pointer of git-lfs; `git lfs pull`"):
    load_tokenizer(tmp_path, "config.model.checkpoint")
