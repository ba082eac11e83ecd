"""TRL and transformers as contestants: `job["work"]` is "sampling", "dpo" or "reward".

The trainers run their own training loop, which waits before each step and is timed from the step's
beginning to its end: data loading and logging are outside. They get our optimizer's settings, the
reference's log-probabilities are computed before, and `job["checkpointing"]` says whether they
recompute activations (the trainers' default).
"""

import importlib.metadata
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import tokenizers
import torch
import transformers
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from benchmarks import data, resident
from benchmarks.protocol import Server
from benchmarks.rate import COPIED_BYTES, rate

MOST_STEPS = 10**6  # the benchmark ends the process before
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
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
    "limits": lambda: limits(dtype),
    "memory": lambda: {"bytes": peak_bytes(held)},
  }
  names = ("torch", "transformers", "trl")
  facts = {
    "versions": {name: importlib.metadata.version(name) for name in names},
    "device": torch.cuda.get_device_name() if ON_GPU else f"cpu, {torch.get_num_threads()} threads",
  }
  work = server.job["work"]
  if work == "sampling":
    server.handlers["run"] = sampling(server.job)
    server.answer(facts)
    server.serve()
  trainer = {"dpo": dpo, "reward": reward}[work](server)
  server.answer(facts)
  trainer.train()


def sampling(job: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
  """`generate` on one batch of queries after another, several sequences of each.

  Each response ends on the schedule as it would end by eos; like after an eos, its row stays in the
  batch until the last one ends.
  """
  model = transformers.AutoModelForCausalLM.from_pretrained(
    Path(job["weights"]) / "policy", dtype=getattr(torch, job["model"]["dtype"])
  ).to(DEVICE)
  # Only the schedule ends a response.
  model.generation_config.eos_token_id = None
  size, samples = job["batch"], len(job["lengths"][0])
  batches = [
    (
      torch.tensor(job["queries"][first : first + size], device=DEVICE),
      torch.tensor(job["lengths"][first : first + size], device=DEVICE).reshape(-1),
    )
    for first in range(0, len(job["queries"]), size)
  ]

  class Schedule(transformers.StoppingCriteria):
    """A row is over when it has as many tokens as its response is to have."""

    def __init__(self, width: int, limits: torch.Tensor) -> None:
      self.width, self.limits = width, limits

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
      return input_ids.shape[1] - self.width >= self.limits

  def generate(queries: torch.Tensor, limits: torch.Tensor) -> int:
    """Samples one batch; says how many tokens of it count."""
    width = queries.shape[1]
    drawn = model.generate(
      input_ids=queries,
      attention_mask=torch.ones_like(queries),
      do_sample=True,
      temperature=1.0,
      top_k=0,
      top_p=1.0,
      num_return_sequences=samples,
      max_new_tokens=int(limits.max()),
      pad_token_id=data.PADDING,
      stopping_criteria=transformers.StoppingCriteriaList([Schedule(width, limits)]),
    ).cpu()
    return int(torch.clamp(limits, max=drawn.shape[1] - width).sum())

  def run() -> dict[str, Any]:
    began = time.perf_counter()
    tokens = sum(generate(*batch) for batch in batches)
    return {"seconds": time.perf_counter() - began, "tokens": tokens}

  return run


def dpo(server: Server) -> transformers.Trainer:
  """DPOTrainer on the pairs of `job["items"]`, all in one batch."""
  job = server.job
  # It tokenizes text itself: each id has a word.
  rows = [
    {"prompt": _text(query) + " ", "chosen": _text(chosen, EOS), "rejected": _text(rejected, EOS)}
    for query, (chosen, rejected) in job["items"]
  ]
  model = transformers.AutoModelForCausalLM.from_pretrained(
    Path(job["weights"]) / "policy", dtype=torch.float32
  )
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
    if ON_GPU:
      torch.cuda.synchronize()
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


def limits(dtype: torch.dtype) -> dict[str, float]:
  """FLOP/s of a large matrix product in `dtype`, and bytes/s of a large copy, read and written."""
  size = 8192 if ON_GPU else 3072
  matrix = torch.ones((size, size), dtype=dtype, device=DEVICE)
  array = torch.ones((COPIED_BYTES // 4,), device=DEVICE)
  copied = torch.empty_like(array)
  return {
    "flops": _rate(2.0 * size**3, lambda: torch.matmul(matrix, matrix)),
    "bandwidth": _rate(2.0 * COPIED_BYTES, lambda: torch.add(array, 1, out=copied)),
  }


def peak_bytes(held: int) -> int:
  """The most memory so far: the device's, or on a CPU the process's above the `held` bytes."""
  return torch.cuda.max_memory_allocated() if ON_GPU else resident.peak_bytes() - held


def _rate(amount: float, call: Callable[[], Any]) -> float:
  """Amounts a second of calls that do so much each."""

  def calls(count: int) -> None:
    for _ in range(count):
      call()
    if ON_GPU:
      torch.cuda.synchronize()

  return rate(amount, calls, accelerator=ON_GPU)


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
    "output_dir": str(Path(job["weights"]).parent / "trainer"),
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
