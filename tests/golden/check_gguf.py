"""Checks that exported directories have what llama.cpp's converter reads of them.

    pip install gguf sentencepiece transformers
    python tests/golden/check_gguf.py OUTPUT/exports/*    # of make_exports.py
    python tests/golden/check_gguf.py OUTPUT/models/*     # of make_portable.py, without tokenizers

The converter itself is a script of llama.cpp that no package brings. The `gguf` package has its
tables: every tensor must have a place in the family's layout, the vocabulary must fit the
embedding, and the special tokens and the chat template must be found. What stays unchecked: the
script's list of known pre-tokenizers, by hashes of their ids. An export has its base's tokenizer,
so it is in the list where its base is.
"""

import json
import pathlib
import sys

import gguf
import transformers
from gguf.vocab import SpecialVocab
from safetensors import safe_open

ARCHITECTURES = {
  "llama": gguf.MODEL_ARCH.LLAMA,
  "mistral": gguf.MODEL_ARCH.LLAMA,
  "qwen2": gguf.MODEL_ARCH.QWEN2,
  "qwen3": gguf.MODEL_ARCH.QWEN3,
  "smollm3": gguf.MODEL_ARCH.SMOLLM3,
  "gemma2": gguf.MODEL_ARCH.GEMMA2,
  "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
}


def main() -> None:
  checked = 0
  for directory in map(pathlib.Path, sys.argv[1:]):
    # The converter reads whole language models; adapters have a script of their own.
    if (directory / "config.json").exists() and "_reward" not in directory.name:
      check(directory)
      checked += 1
  print(f"{checked} exports have what the converter reads")
  if not checked:
    sys.exit("Nothing was checked.")


def check(directory: pathlib.Path) -> None:
  config = json.loads((directory / "config.json").read_text())
  layers = config["num_hidden_layers"]
  names = gguf.get_tensor_name_map(ARCHITECTURES[config["model_type"]], layers)
  with safe_open(directory / "model.safetensors", framework="numpy") as file:
    places = {name: names.get_name(name, (".weight", ".bias")) for name in file.keys()}  # noqa: SIM118
    missing = [name for name, place in places.items() if place is None]
    assert not missing, (directory, missing)
    assert len(set(places.values())) == len(places), directory
    rows = file.get_slice("model.embed_tokens.weight").get_shape()[0]
  assert rows == config["vocab_size"]
  assert "rope_theta" in config or "rope_parameters" not in config, directory
  if (directory / "tokenizer_config.json").exists():
    check_tokenizer(directory, rows)


def check_tokenizer(directory: pathlib.Path, rows: int) -> None:
  """Its ids fit the embedding, and its special tokens, merges and template are found."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
  assert max(tokenizer.get_vocab().values()) < rows, directory
  special = SpecialVocab(directory, load_merges=True, n_vocab=rows)
  assert special.special_token_ids["eos"] == tokenizer.eos_token_id, special.special_token_ids
  assert special.special_token_ids.get("bos") == tokenizer.bos_token_id
  assert special.merges and special.chat_template == tokenizer.chat_template, directory


if __name__ == "__main__":
  main()
