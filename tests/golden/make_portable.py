"""Makes portable.json: exported files that transformers 4.57 and 5 both read with equal numbers.

    python -m tests.golden.make_portable write OUTPUT
    VENV/bin/python tests/golden/check_portable.py OUTPUT    # with transformers 4.57 and PyTorch
    VENV/bin/python tests/golden/check_portable.py OUTPUT    # with transformers 5 and PyTorch
    python -m tests.golden.make_portable store OUTPUT

The first writes every case of hugging_face/ as export does, in the spelling of its config.json and
in that of transformers 5, and the tokenizers of tokenizers/. The checks compare logits with the
case's, and ids, and write what they found. The last stores the small files, if all versions agree.
"""

import copy
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from apo_jax.export.tokenizer_files import save_tokenizer
from apo_jax.export.weights import (
  has_classifier,
  policy_config,
  policy_tensors,
  reward_config,
  reward_tensors,
  write_weights,
)
from apo_jax.models.definition import define_policy, define_reward_model
from apo_jax.models.hugging_face.checkpoint import Checkpoint
from apo_jax.models.hugging_face.importing import import_decoder
from tests import tiny
from tests.golden.portable_ids import ids_of
from tests.models.hugging_face import cases

HERE = Path(__file__).parent
STORED = HERE / "portable.json"
TOKENIZERS = HERE / "tokenizers"
PADDING = 0  # of the cases' reward models


def main() -> None:
  """Writes or stores, as the first argument says."""
  task, output = sys.argv[1], Path(sys.argv[2])
  {"write": write, "store": store}[task](output)


def write(output: Path) -> None:
  """Writes every model and tokenizer below `output`."""
  for name in cases.POLICIES:
    for spelling in ("old", "new"):
      write_model(output, name, spelling)
      print(name, spelling, flush=True)
  for source in sorted(path for path in TOKENIZERS.iterdir() if path.is_dir()):
    directory = output / "tokenizers" / source.name
    directory.mkdir(parents=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    save_tokenizer(tokenizer, directory)
    (output / "tokenizers" / f"{source.name}.json").write_text(json.dumps(ids_of(tokenizer)))


def spelled(name: str, spelling: str) -> dict[str, Any]:
  """A case's config.json; the "new" spelling is how transformers 5 saves it."""
  config = copy.deepcopy(cases.golden(name)["config"])  # transformers writes into what it is given
  if spelling == "old":
    return config
  return transformers.AutoConfig.for_model(**config).to_dict()


def configs(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
  """config.json of the exported policy, and of a reward model from it where there is a class."""
  given = (checkpoint.hf_config, checkpoint.family, checkpoint.architecture, "float32")
  made = {"policy": policy_config(*given)}
  if has_classifier(checkpoint.family):
    made["reward"] = reward_config(*given, PADDING)
  return made


def write_model(output: Path, name: str, spelling: str) -> None:
  """A policy and a reward model, as export writes them."""
  source = output / "sources" / f"{name}_{spelling}"
  cases.write(source, name)
  (source / "config.json").write_text(json.dumps(spelled(name, spelling)))
  checkpoint = cases.read(source)
  policy = define_policy(checkpoint.architecture, tiny.mesh())
  parameters = import_decoder(checkpoint, policy.abstract, cases.FIELD)
  reward = define_reward_model(checkpoint.architecture, "eos", tiny.mesh())
  whole = {"trunk": parameters, "reward_head": parameters["final_norm"]}
  family = checkpoint.family
  tensors = {
    "policy": policy_tensors(parameters, policy, family, "float32"),
    "reward": reward_tensors(whole, reward, family, "float32"),
  }
  golden = cases.golden(name)
  for player, config in configs(checkpoint).items():
    directory = output / "models" / f"{name}_{spelling}_{player}"
    directory.mkdir(parents=True)
    write_weights(directory, tensors[player])
    (directory / "config.json").write_text(json.dumps(config))
    expected = {"tokens": golden["tokens"], "logits": golden["logits"]}
    directory.with_suffix(".json").write_text(json.dumps(expected))


def store(output: Path) -> None:
  """Stores what all versions agreed on."""
  results = [json.loads(path.read_text()) for path in sorted(output.glob("results-*.json"))]
  versions = [result["version"] for result in results]
  if {version.split(".")[0] for version in versions} != {"4", "5"}:
    sys.exit(f"There are results of transformers {versions}; versions 4 and 5 are wanted.")
  rewards = [result["rewards"] for result in results]
  for name in rewards[0].keys() & rewards[1].keys():  # version 4 has no classifier of some families
    for one, other in zip(*(reward[name] for reward in rewards), strict=True):
      if abs(one - other) > 1e-4 * max(1, abs(one)):
        sys.exit(f"{name}: rewards {one} and {other}")
  models = {
    path.name: json.loads((path / "config.json").read_text())
    for path in sorted((output / "models").iterdir())
    if path.is_dir()
  }
  tokenizers = {
    path.stem: {
      "config": json.loads((path.with_suffix("") / "tokenizer_config.json").read_text()),
      "ids": json.loads(path.read_text()),
    }
    for path in sorted((output / "tokenizers").glob("*.json"))
  }
  stored: Mapping[str, Any] = {"versions": versions, "models": models, "tokenizers": tokenizers}
  STORED.write_text(json.dumps(stored, separators=(",", ":"), ensure_ascii=False) + "\n")


if __name__ == "__main__":
  main()
