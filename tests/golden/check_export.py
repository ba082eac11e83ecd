"""Compares what transformers and peft compute from exported models with the numbers beside them.

    pip install torch transformers peft
    python tests/golden/check_export.py OUTPUT/exports/*

The directories and numbers are of make_exports.py. The code in each README.md is run as well.
"""

import contextlib
import io
import json
import os
import pathlib
import re
import sys

import peft
import torch
import transformers

TOLERANCE = 1e-4  # of the largest number, or of one


def main() -> None:
  print(f"transformers {transformers.__version__}, peft {peft.__version__}")
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  compared, failed = [], []
  for directory in map(pathlib.Path, sys.argv[1:]):
    if not directory.is_dir():
      continue
    numbers = json.loads(directory.with_suffix(".json").read_text())
    check = check_reward if numbers["player"] == "reward" else check_policy
    difference, size = check(directory, numbers)
    print(f"{directory.name:32} largest difference {difference:.1e} of numbers up to {size:.2f}")
    compared.append(directory.name)
    if not difference <= TOLERANCE * max(size, 1.0):
      failed.append(directory.name)
  if failed or not compared:
    sys.exit(f"More than {TOLERANCE} apart: {', '.join(failed) or 'nothing was compared'}")


def load(directory: pathlib.Path, kind: str, **options) -> torch.nn.Module:
  if (directory / "adapter_config.json").exists():
    return getattr(peft, f"AutoPeftModelFor{kind}").from_pretrained(directory, **options).eval()
  model, report = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
    directory, output_loading_info=True
  )
  wrong = {name: found for name, found in report.items() if found}
  assert not wrong, wrong
  return model.eval()


def check_ids(directory: pathlib.Path, numbers: dict) -> None:
  """The tokenizer writes, reads and decodes what the run did."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
  for (query, response), ids, text, answer in zip(
    *(numbers[name] for name in ("dialogues", "tokens", "texts", "answers")), strict=True
  ):
    asked = tokenizer.apply_chat_template(
      [{"role": "user", "content": query}], add_generation_prompt=True, tokenize=False
    )
    prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
    assert prompt == ids[: len(prompt)], (directory, prompt, ids)
    answered = tokenizer(f"{numbers['opening']}{response}", add_special_tokens=False)["input_ids"]
    assert [*prompt, *answered, numbers["eos"]] == ids, (directory, prompt, answered, ids)
    assert tokenizer.decode(ids) == text, (directory, tokenizer.decode(ids), text)
    decoded = tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
    assert decoded == answer, (directory, decoded, answer)


def check_generation(directory: pathlib.Path) -> None:
  """generation_config.json is valid, and has what vLLM has ever accepted."""
  generation = transformers.GenerationConfig.from_pretrained(directory)
  generation.validate(strict=True)
  given = json.loads((directory / "generation_config.json").read_text())
  assert "top_k" not in given or given["top_k"] >= 1
  assert 0 < given.get("top_p", 1.0) <= 1 and given.get("temperature", 1.0) > 0
  assert given["repetition_penalty"] > 0 and given["max_new_tokens"] >= 1


def check_policy(directory: pathlib.Path, numbers: dict) -> tuple[float, float]:
  check_ids(directory, numbers)
  check_generation(directory)
  model = load(directory, "CausalLM")
  differences, sizes = [], []
  with torch.no_grad():
    for tokens, logits in zip(numbers["tokens"], numbers["logits"], strict=True):
      expected = torch.tensor(logits)
      differences.append((model(torch.tensor([tokens])).logits[0] - expected).abs().max().item())
      sizes.append(expected.abs().max().item())
  run_card(directory)
  return max(differences), max(sizes)


def check_reward(directory: pathlib.Path, numbers: dict) -> tuple[float, float]:
  """One padded batch of texts, padded on either side, and what README.md says."""
  check_ids(directory, numbers)
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
  model = load(
    directory, "SequenceClassification", num_labels=1, pad_token_id=tokenizer.pad_token_id
  )
  assert model.config.pad_token_id == tokenizer.pad_token_id
  eos = tokenizer.convert_ids_to_tokens(numbers["eos"])
  expected = torch.tensor(numbers["rewards"])
  ends = ("", eos) if numbers["pooling"] == "last" else (eos,)
  differences = []
  for end in ends:
    texts = [
      tokenizer.apply_chat_template(
        [{"role": "user", "content": query}], add_generation_prompt=True, tokenize=False
      )
      + f"{numbers['opening']}{response.strip()}{end}"
      for query, response in numbers["dialogues"]
    ]
    for text, ids in zip(texts, numbers["tokens"], strict=True):
      read = tokenizer(text, add_special_tokens=False)["input_ids"]
      assert read == (ids if end else ids[:-1]), (read, ids)
    for side in ("left", "right"):
      batch = tokenizer(
        texts, add_special_tokens=False, padding=True, padding_side=side, return_tensors="pt"
      )
      positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
      with torch.no_grad():
        rewards = model(**batch, position_ids=positions).logits[:, 0]
      differences.append((rewards - expected).abs().max().item())
  reward = run_card(directory)["reward"]
  differences.append((reward - expected[:1]).abs().max().item())
  return max(differences), expected.abs().max().item()


def run_card(directory: pathlib.Path) -> dict:
  """The names that the code in README.md leaves."""
  (code,) = re.findall(r"```python\n(.*?)```", (directory / "README.md").read_text(), re.DOTALL)
  names: dict = {}
  before = os.getcwd()
  os.chdir(directory)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      exec(code, names)
  finally:
    os.chdir(before)
  return names


if __name__ == "__main__":
  main()
