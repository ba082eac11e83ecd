"""Exports tiny runs of every family, with the logits and rewards that they should give.

    python -m tests.golden.make_exports OUTPUT [CASE_OR_CHECKPOINT...]
    python tests/golden/check_export.py OUTPUT/exports/*      # where PyTorch is installed
    python tests/golden/check_gguf.py OUTPUT/exports/*        # where gguf is

Beside each exported directory, NAME.json holds what our own models compute from the run's
parameters, which never went through the exported files. Further arguments
name cases, or directories of checkpoints, that alone are exported.
"""

import copy
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import transformers
from safetensors.numpy import save_file

from apo_jax.config.schema import Config
from apo_jax.data.templates import HhForm
from apo_jax.data.tokens import load_tokenizer, make_codec
from apo_jax.export.run import export
from apo_jax.export.weights import has_classifier
from apo_jax.models.definition import Definition, Parameters, join
from apo_jax.rows.rows import Rows, flatten, make_rows
from apo_jax.run.origins import find_origins
from apo_jax.run.starts import frozen_policy, frozen_reward
from tests import finished_run, tiny
from tests.golden.hugging_face_weights import weights
from tests.models.hugging_face import cases

# The first is the one of README.md. The others have other lengths, so that padding matters.
DIALOGUES = (
  ("How do plants grow?", "They turn light into sugar."),
  ("Why?", "No."),
  ("Tell me of the sea.", "The sea is deep."),
)
PLAYERS = {"policy": "01_policy", "reward": "01_reward"}
SCALED = ("llama3", "smollm3", "gemma3_text")  # whose rotary positions are not the usual ones
VOCABULARY = 400  # more than the tokenizer has, as in many checkpoints
MODULES = ("query", "key", "value", "output", "gate", "up", "down")


def main() -> None:
  """Writes everything below the directory of the first argument."""
  output = Path(sys.argv[1]).absolute()
  wanted = sys.argv[2:] or [*cases.POLICIES, *(f"{name}_new" for name in SCALED)]
  for one in wanted:
    name, base = Path(one).name, Path(one)
    if not base.is_dir():
      is_new = one.endswith("_new")
      case = one.removesuffix("_new")
      base = write_base(output / "bases" / one, case, new_spelling=is_new)
    for rank, pooling in ((0, "last"), (3, "eos")):
      run_dir = output / "runs" / f"{name}_{rank}"
      lora = {"rank": rank, "alpha": 6.0, "modules": MODULES}
      config = finished_run.make(
        run_dir,
        model__checkpoint=str(base),
        reward__pooling=pooling,
        data__query_length=64,
        data__query_buckets=(64,),
        data__row_length=128,
        **{f"{p}__lora__{field}": value for p in PLAYERS for field, value in lora.items()},
      )
      family = json.loads((base / "config.json").read_text())["model_type"]
      for player in PLAYERS:
        if player == "reward" and not has_classifier(family):
          continue
        numbers = compute(config, run_dir, player)
        for adapter in (False, True)[: 1 + bool(rank)]:
          kind = "adapter" if adapter else "merged" if rank else "trained"
          exported = output / "exports" / f"{name}_{player}_{kind}"
          export(run_dir, exported, player=player, adapter=adapter)
          exported.with_suffix(".json").write_text(json.dumps(numbers))
          print(exported, flush=True)


def rope_parameters(config: dict) -> dict:
  """Rotary positions as transformers 5 spells them."""
  return transformers.AutoConfig.for_model(**copy.deepcopy(config)).rope_parameters


def write_base(directory: Path, name: str, *, new_spelling: bool = False) -> Path:
  """A case of hugging_face/, with the tests' tokenizer.

  With `new_spelling` its config.json says rotary positions as transformers 5 alone does.
  """
  golden = cases.golden(name)
  old = golden["config"]["vocab_size"]
  shapes = {
    tensor: tuple(VOCABULARY if size == old else size for size in shape)
    for tensor, shape in golden["tensors"].items()
  }
  directory.mkdir(parents=True)
  made = {tensor: weights(tensor, shape, golden["norm_center"]) for tensor, shape in shapes.items()}
  save_file(made, directory / "model.safetensors", metadata={"format": "pt"})
  config = golden["config"] | {"vocab_size": VOCABULARY}
  if "original_max_position_embeddings" in config:  # the run's rows must be no longer
    config["original_max_position_embeddings"] = config["max_position_embeddings"] // 2
  if new_spelling:
    config |= {"rope_parameters": rope_parameters(golden["config"])}
    for old in ("rope_theta", "rope_scaling", "rope_local_base_freq"):
      config.pop(old, None)
  (directory / "config.json").write_text(json.dumps(config))
  tiny.codec().tokenizer.save_pretrained(directory)
  return directory


def compute(config: Config, run_dir: Path, player: str) -> dict:
  """The logits of every token, or the rewards, of `DIALOGUES`, and their ids."""
  codec = make_codec(load_tokenizer(run_dir / "tokenizer", "the run"), config, sys.maxsize)
  queries = codec.encode_queries([f"\n\nHuman: {query}\n\nAssistant:" for query, _ in DIALOGUES])
  responses = codec.encode_responses([f" {response}" for _, response in DIALOGUES])
  items = [(query, [response]) for query, response in zip(queries, responses, strict=True)]
  rows = jax.tree.map(jnp.asarray, flatten(make_rows(items, 1, 128, codec.eos)))
  lengths = [len(query) + len(response.tokens) + 1 for query, (response,) in items]
  definition, parameters = player_of(config, player)
  model = definition.bind(parameters)
  ends = (rows.ends,) if player == "reward" else ()
  read = model(rows.tokens, rows.segment_ids, rows.positions, *ends)
  numbers = {
    "player": player,
    "tokens": rows_of(rows, lengths),
    "dialogues": DIALOGUES,
    "pooling": config.reward.pooling,
    "eos": codec.eos,
    "texts": [codec.tokenizer.decode(row) for row in rows_of(rows, lengths)],
    "answers": [codec.decode(response.tokens) for response in responses],
    "opening": " " if isinstance(codec.form, HhForm) else codec.form.opening,
  }
  if player == "reward":
    return numbers | {"rewards": read[:, 0].tolist()}
  logits = model.logits(read[0])[..., : definition.architecture.vocab_size].tolist()
  return numbers | {"logits": [row[:n] for row, n in zip(logits, lengths, strict=True)]}


def rows_of(rows: Rows, lengths: list[int]) -> list[list[int]]:
  """The ids of each row, without padding."""
  return [row[:length] for row, length in zip(rows.tokens.tolist(), lengths, strict=True)]


def player_of(config: Config, player: str) -> tuple[Definition, Parameters]:
  """A player's definition and parameters, those that are frozen among them."""
  origins = find_origins(config)
  definition = finished_run.definition(config, PLAYERS[player])
  policy = finished_run.definition(config, PLAYERS["policy"])
  frozen = frozen_policy(origins, policy)
  if player == "reward":
    frozen = frozen_reward(origins, policy, frozen, definition)
  return definition, join(finished_run.trained(PLAYERS[player], definition), frozen)


if __name__ == "__main__":
  main()
