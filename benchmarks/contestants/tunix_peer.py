"""Tunix as a contestant: `job["work"]` is "sampling" or "dpo".

The trainer runs its own loop over data that wait before each step: a step is timed from the moment
its data are given until the parameters are there.
"""

import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.generate.sampler import CacheConfig, Sampler
from tunix.models.llama3 import model as llama
from tunix.models.llama3.params import create_model_from_safe_tensors
from tunix.sft.dpo.dpo_trainer import DPOTrainer, DPOTrainingConfig, TrainingInput, compute_logps

from benchmarks import data, resident
from benchmarks.contestants.jax_limits import limits, peak_bytes
from benchmarks.protocol import Server

OPTIMIZER = {"learning_rate": 1e-6, "b1": 0.9, "b2": 0.999, "weight_decay": 0.0}
CLIP_NORM = 1.0


class WordTokenizer:
  """What the sampler wants of a tokenizer; text is ids with blanks between."""

  def __init__(self, vocab_size: int):
    self._eos = data.eos(vocab_size)

  def encode(self, text: str) -> list[int]:
    """The ids that the text says."""
    return [int(word) for word in text.split()]

  def decode(self, ids: list[int]) -> str:
    """Text of ids."""
    return " ".join(map(str, ids))

  def bos_id(self) -> int:
    """0: none."""
    return 0

  def eos_id(self) -> int:
    """The id that ends a response."""
    return self._eos

  def pad_id(self) -> int:
    """What shorter prompts are padded with."""
    return data.PADDING


class GivenReference(DPOTrainer):
  """The trainer with the reference's log-probabilities given, computed once, like the others'."""

  reference: Any = None

  def _prepare_inputs(self, training_input: Any) -> Any:
    example = super()._prepare_inputs(training_input)
    if self.reference is None:
      self.reference = compute_logps(
        self.model,
        example.input_ids,
        example.positions,
        example.attention_mask,
        example.logits_to_keep,
        example.completion_mask,
      )
    chosen, rejected = self.reference
    return dataclasses.replace(example, ref_chosen_logps=chosen, ref_rejected_logps=rejected)


def main() -> None:
  """Builds the job's work, then answers."""
  server = Server()
  device = jax.devices()[0]
  held = resident.held_bytes()
  server.handlers = {
    "limits": lambda: limits(server.job["model"]["dtype"]),
    "memory": lambda: {"bytes": peak_bytes(device, held)},
  }
  names = ("google-tunix", "jax", "flax")
  facts = {
    "versions": {name: importlib.metadata.version(name) for name in names},
    "device": device.device_kind,
  }
  if server.job["work"] == "sampling":
    server.handlers["run"] = sampling(server.job)
    server.answer(facts)
    server.serve()
  dpo(server, facts)


def sampling(job: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
  """The sampler on every query as often as it has responses: it has no way to share one.

  It has no hook to end a response on the schedule, and gets an eos that no token is. That does not
  change its time: it runs all rows until the longest is over. Tokens behind a response's length do
  not count.
  """
  model, config = load_model(job)
  lengths = np.array(job["lengths"])
  width, longest = len(job["queries"][0]), int(lengths.max())
  sampler = Sampler(
    model,
    WordTokenizer(config.vocab_size),
    CacheConfig(
      cache_size=width + longest,
      num_layers=config.num_layers,
      num_kv_heads=config.num_kv_heads,
      head_dim=config.head_dim,
    ),
  )
  prompts = [" ".join(map(str, query)) for query in job["queries"] for _ in job["lengths"][0]]

  size = job["batch"] * len(job["lengths"][0])

  def draw(first: int) -> int:
    """Samples one batch of prompts; says how many tokens of it count."""
    own = lengths.reshape(-1)[first : first + size]
    drawn = sampler(
      prompts[first : first + size],
      max_generation_steps=int(own.max()),
      max_prompt_length=width,
      eos_tokens=[config.vocab_size],
      temperature=1.0,
      top_p=1.0,
      seed=0,
    )
    return int(np.minimum([len(response) for response in drawn.tokens], own).sum())

  def run() -> dict[str, Any]:
    began = time.perf_counter()
    tokens = sum(draw(first) for first in range(0, len(prompts), size))
    return {"seconds": time.perf_counter() - began, "tokens": tokens}

  return run


def dpo(server: Server, facts: Mapping[str, Any]) -> None:
  """DPOTrainer on the pairs of `job["items"]`, all in one batch; ends with the benchmark."""
  items = server.job["items"]
  model, _ = load_model(server.job)
  queries, chosen, rejected = (
    np.array(part, np.int32)
    for part in zip(*((query, *responses) for query, responses in items), strict=True)
  )
  pairs = TrainingInput(
    prompt_ids=queries,
    prompt_mask=np.ones_like(queries),
    chosen_ids=chosen,
    chosen_mask=np.ones_like(chosen),
    rejected_ids=rejected,
    rejected_mask=np.ones_like(rejected),
  )
  optimizer = optax.chain(optax.clip_by_global_norm(CLIP_NORM), optax.adamw(**OPTIMIZER))
  config = DPOTrainingConfig(eval_every_n_steps=10**9, beta=0.1)
  trainer = GivenReference(model, None, optimizer, config)
  losses: list[Any] = []
  plain = trainer._buffer_metrics

  def keep_loss(*arguments: Any, **options: Any) -> Any:
    losses.append(options["loss"])
    return plain(*arguments, **options)

  trainer._buffer_metrics = keep_loss

  def steps() -> Iterator[TrainingInput]:
    while True:
      server.serve(until="run")
      began = time.perf_counter()
      yield pairs
      jax.block_until_ready(nnx.state(model, nnx.Param))
      seconds = time.perf_counter() - began
      server.answer({"seconds": seconds, "loss": float(losses[-1])})

  server.answer(facts)
  trainer.train(steps())


def load_model(job: Mapping[str, Any]) -> tuple[llama.Llama3, llama.ModelConfig]:
  """The shared weights in `job["model"]["dtype"]`; all of the model computes in it."""
  folder = Path(job["weights"]) / "policy"
  said = json.loads((folder / "config.json").read_text())
  config = llama.ModelConfig(
    num_layers=said["num_hidden_layers"],
    vocab_size=said["vocab_size"],
    embed_dim=said["hidden_size"],
    hidden_dim=said["intermediate_size"],
    num_heads=said["num_attention_heads"],
    head_dim=said["head_dim"],
    num_kv_heads=said["num_key_value_heads"],
    rope_theta=said["rope_theta"],
    norm_eps=said["rms_norm_eps"],
    weight_tying=said["tie_word_embeddings"],
  )
  model = create_model_from_safe_tensors(
    str(folder), config, dtype=jnp.dtype(job["model"]["dtype"])
  )
  return model, config


if __name__ == "__main__":
  main()
