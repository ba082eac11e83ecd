"""Tokenizers of strangers."""

import json
import os
import shutil

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.data import tokenizer_limits
from apo_jax.data.tokens import load_tokenizer, token_texts, train_tokenizer


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
  place = tmp_path_factory.mktemp("tokenizer")
  train_tokenizer(["a few words", "and a few more"], 300).save_pretrained(place)
  return place


def variant(plain, place, **changes):
  """A copy whose tokenizer.json has other values of some fields."""
  shutil.copytree(plain, place, dirs_exist_ok=True)
  file = place / "tokenizer.json"
  file.write_text(json.dumps(json.loads(file.read_text()) | changes))
  return place


def rule(pattern, content, kind="Regex"):
  return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


@pytest.mark.parametrize(
  "normalizer",
  [
    rule("a", "a" * 1_000_000, "String"),
    {"type": "Sequence", "normalizers": [rule(".", "a" * 10)] * 9},
    {"type": "Prepend", "prepend": "x" * 5000},
  ],
)
def test_rules_that_write_without_measure(plain, tmp_path, normalizer):
  with pytest.raises(ConfigError, match=r"a normalizer that may write .* characters for one"):
    load_tokenizer(variant(plain, tmp_path, normalizer=normalizer), "it")


def test_usual_rules_are_read(plain, tmp_path):
  rules = [{"type": "NFC"}, {"type": "Prepend", "prepend": "▁"}, rule(" ", "▁", "String")]
  given = {"type": "Sequence", "normalizers": rules}
  load_tokenizer(variant(plain, tmp_path, normalizer=given), "it")


def test_a_regular_expression_without_end_is_a_sentence(plain, tmp_path):
  split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
  tokenizer = load_tokenizer(variant(plain, tmp_path, pre_tokenizer=split), "it")
  with (
    pytest.raises(ConfigError, match=r"^The tokenizer '.*' breaks off at a text \(.*Regex"),
    tokenizer_limits.told_apart(tokenizer),
  ):
    tokenizer("a" * 40 + "!")
  assert len(token_texts(tokenizer, [3, 4])) == 2


def test_interruptions_are_no_panics(plain):
  with (
    pytest.raises(KeyboardInterrupt),
    tokenizer_limits.told_apart(load_tokenizer(plain, "it")),
  ):
    raise KeyboardInterrupt


@pytest.mark.parametrize("names", ["auto_map", "both"])
def test_a_tokenizer_that_is_code_is_refused_by_its_name(plain, tmp_path, names):
  shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
  ran = tmp_path / "ran"
  (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
  given = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(given))
  if names == "both":
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
  with pytest.raises(ConfigError, match=r"auto_map in its tokenizer_config\.json, which is never"):
    load_tokenizer(tmp_path, "it")
  assert not ran.exists()


def test_sizes_of_files(plain, tmp_path, monkeypatch):
  directory = variant(plain, tmp_path)
  monkeypatch.setitem(tokenizer_limits._MOST_BYTES, "tokenizer.json", 100)
  with pytest.raises(ConfigError, match=r"whose tokenizer\.json has .* bytes; .* at most 100"):
    load_tokenizer(directory, "it")
  (directory / "tokenizer.json").unlink()
  os.mkfifo(directory / "tokenizer.json")
  with pytest.raises(ConfigError, match=r"whose tokenizer\.json is no file"):
    load_tokenizer(directory, "it")


@pytest.mark.parametrize("name", ["additional_special_tokens", "added_tokens_decoder"])
def test_too_many_tokens_are_not_added(plain, tmp_path, name):
  directory = variant(plain, tmp_path)
  added = [f"<{number}>" for number in range(50_001)]
  given = dict.fromkeys(added) if name == "added_tokens_decoder" else added
  (directory / "tokenizer_config.json").write_text(json.dumps({name: given}))
  with pytest.raises(ConfigError, match=rf"has 50,001 {name}; it must have at most 50,000"):
    load_tokenizer(directory, "it")


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["[" * 50_000, "[]", "5", "\0", '{"model": {"vocab": {"a": -1}}}'])
def test_files_that_hold_no_tokenizer(plain, tmp_path, file, text):
  directory = variant(plain, tmp_path)
  (directory / file).write_text(text)
  if file == "tokenizer_config.json" and text.startswith("{"):
    load_tokenizer(directory, "it")  # fields that nothing reads
    return
  with pytest.raises(ConfigError, match=r"^it is '.*', and no tokenizer could be read from it"):
    load_tokenizer(directory, "it")
