"""Compares what this version of transformers reads in the files of make_portable.py.

pip install torch transformers
python tests/golden/check_portable.py OUTPUT
"""

import json
import pathlib
import sys

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from tests.golden.portable_ids import ids_of

TOLERANCE = 1e-4  # of the largest logit


def main() -> None:
  output = pathlib.Path(sys.argv[1])
  transformers.utils.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  rewards = {}
  for directory in sorted(path for path in (output / "models").iterdir() if path.is_dir()):
    numbers = json.loads(directory.with_suffix(".json").read_text())
    tokens = torch.tensor(numbers["tokens"])
    is_reward = directory.name.endswith("_reward")
    kind = "SequenceClassification" if is_reward else "CausalLM"
    auto = getattr(transformers, f"AutoModelFor{kind}")
    if type(transformers.AutoConfig.from_pretrained(directory)) not in auto._model_mapping:
      assert is_reward and transformers.__version__.startswith("4."), directory
      print(f"{directory.name:32} this version has no such classifier")
      continue
    # Other kinds of attention leave out Gemma 2's soft caps in version 4.
    model, report = auto.from_pretrained(
      directory, output_loading_info=True, attn_implementation="eager"
    )
    wrong = {name: found for name, found in report.items() if found}
    assert not wrong, (directory, wrong)
    with torch.no_grad():
      logits = model.eval()(tokens).logits
    if is_reward:
      rewards[directory.name] = logits[:, 0].tolist()
      continue
    expected = torch.tensor(numbers["logits"])
    difference = (logits - expected).abs().max().item()
    print(f"{directory.name:32} largest difference {difference:.1e}")
    assert difference <= TOLERANCE * expected.abs().max().item(), directory
  for path in sorted((output / "tokenizers").glob("*.json")):
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.with_suffix(""))
    found, expected = ids_of(tokenizer), json.loads(path.read_text())
    for name, value in expected.items():
      assert found.get(name) == value, (path.stem, name, found.get(name), value)
    print(f"{path.stem:32} {type(tokenizer).__name__}: all ids equal")
  version = transformers.__version__
  result = {"version": version, "rewards": rewards}
  (output / f"results-{version}.json").write_text(json.dumps(result))


if __name__ == "__main__":
  main()
