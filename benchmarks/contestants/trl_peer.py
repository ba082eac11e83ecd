"""TRL and transformers as contestants: `job["work"]` is "sampling", "dpo" or "reward".

The trainers run their own training loop, which waits before each step and is timed from the step's
beginning to its end: data loading and logging are outside. They get our optimizer's settings, the
reference's log-probabilities are computed before, and `job["checkpointing"]` says whether they
recompute activations (the trainers' default).
"""

import importlib.metadata
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import tokenizers
import torch
import transformers
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from benchmarks import data, resident
from benchmarks.contestants import torch_peer
from benchmarks.contestants.torch_peer import ON_GPU
from benchmarks.protocol import Server

MOST_STEPS = 10**6  # the benchmark ends the process before
PAD, EOS = "<pad>", "<eos>"

OPTIMIZER = {
  "learning_rate": 1e-6,
  "lr_scheduler_type": "constant",
  "warmup_steps": 0,
  "weight_decay": 0.0,
  "max_grad_norm": 1.0,
  "adam_beta1": 0.9,
  "adam_beta2": 0.999,
}


def main() -> None:
  """Builds the job's work, then answers."""
  server = Server()
  held = resident.held_bytes()
  dtype = getattr(torch, server.job["model"]["dtype"])
  server.handlers = {
    "limits": lambda: torch_peer.limits(dtype),
    "memory": lambda: {"bytes": torch_peer.peak_bytes(held)},
  }
  names = ("torch", "transformers", "trl")
  facts = {
    "versions": {name: importlib.metadata.version(name) for name in names},
    "device": torch_peer.device_name(),
  }
  work = server.job["work"]
  if work == "sampling":
    server.handlers["run"] = torch_peer.sampling(server.job)
    server.answer(facts)
    server.serve()
  trainer = {"dpo": dpo, "reward": reward}[work](server)
  server.answer(facts)
  trainer.train()


def dpo(server: Server) -> transformers.Trainer:
  """DPOTrainer on the pairs of `job["items"]`, all in one batch."""
  job = server.job
  # It tokenizes text itself: each id has a word.
  rows = [
    {"prompt": _text(query) + " ", "chosen": _text(chosen, EOS), "rejected": _text(rejected, EOS)}
    for query, (chosen, rejected) in job["items"]
  ]
  model = torch_peer.policy(job, torch.float32)
  arguments = DPOConfig(
    **_arguments(job, len(rows)), beta=0.1, max_length=None, precompute_ref_log_probs=True
  )
  return _timed(DPOTrainer)(
    model=model,
    args=arguments,
    train_dataset=datasets.Dataset.from_list(rows),
    processing_class=word_tokenizer(job["model"]["vocab_size"]),
    callbacks=[Turns(server)],
  )


def reward(server: Server) -> transformers.Trainer:
  """RewardTrainer on the pairs of the first response of `job["items"]` and every other."""
  job = server.job
  rows = [
    {"chosen_ids": [*query, *golden], "rejected_ids": [*query, *sample]}
    for query, (golden, *samples) in job["items"]
    for sample in samples
  ]
  model = transformers.AutoModelForSequenceClassification.from_pretrained(
    Path(job["weights"]) / "reward", dtype=torch.float32
  )
  return _timed(RewardTrainer)(
    model=model,
    args=RewardConfig(**_arguments(job, len(rows)), max_length=None),
    train_dataset=datasets.Dataset.from_list(rows),
    processing_class=word_tokenizer(job["model"]["vocab_size"]),
    callbacks=[Turns(server)],
  )


class Turns(transformers.TrainerCallback):
  """Waits for the contestant's turn before each step, and answers with what it took."""

  def __init__(self, server: Server):
    self.server = server
    self.began = 0.0

  def on_step_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
    """Waits, then starts the clock."""
    self.server.serve(until="run")
    self.began = time.perf_counter()

  def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
    """Stops the clock."""
    torch_peer.synchronize()
    seconds = time.perf_counter() - self.began
    self.server.answer({"seconds": seconds, "loss": float(options["model"].last_loss)})


def word_tokenizer(vocab_size: int) -> transformers.PreTrainedTokenizerFast:
  """A word for each id, so that text is the ids it is made of."""
  words = {_word(token): token for token in range(1, vocab_size - 1)}
  words |= {PAD: data.PADDING, EOS: data.eos(vocab_size)}
  model = tokenizers.models.WordLevel(words, unk_token=PAD)
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS
  )


def _timed(trainer: type[transformers.Trainer]) -> type[transformers.Trainer]:
  """The trainer, which leaves each step's loss where `Turns` finds it."""

  class Timed(trainer):
    def training_step(self, model: Any, *arguments: Any, **options: Any) -> torch.Tensor:
      loss = super().training_step(model, *arguments, **options)
      model.last_loss = loss.detach()
      return loss

  return Timed


def _arguments(job: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
  return OPTIMIZER | {
    "output_dir": str(Path(tempfile.gettempdir()) / "trainer"),  # nothing is saved
    "per_device_train_batch_size": batch_size,
    "max_steps": MOST_STEPS,
    "gradient_checkpointing": job["checkpointing"],
    "bf16": job["model"]["dtype"] == "bfloat16",  # masters stay float32, as ours do
    "use_cpu": not ON_GPU,
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
  }


def _word(token: int) -> str:
  return f"w{token}"


def _text(ids: list[int], end: str = "") -> str:
  """Words with blanks between; the last one is `end`, where that is given."""
  words = [_word(token) for token in ids]
  return " ".join([*words[:-1], end] if end else words)


if __name__ == "__main__":
  main()
