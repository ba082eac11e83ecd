"""A round's five stages by PyTorch, transformers and PEFT, as one writes them for one card.

They are those of a round of ours and of its size: samples of golden queries, the reward model's
updates on preferences and on golden responses against samples, samples of the policy's queries,
their scores (rewards, and the reference's log-probabilities of the best and the worst of a query),
and the policy's DPO updates. Both models are one checkpoint in bfloat16 with adapters. A response
is a row of its own with its query, and rows are padded to the longest of their batch. Batches are
read in parts that an 80 GB card has room for.
"""

import gzip
import itertools
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from benchmarks.contestants.torch_peer import BETA, DEVICE, synchronize

ROWS_AT_ONCE = {"sample": 64, "train": 16, "score": 64}  # queries, rows, rows
ADAPTED = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

Ids = list[int]
Row = tuple[Ids, Ids]  # a query and a response


def play(job: Mapping[str, Any], say: Callable[..., None]) -> None:
  """Plays the five stages once; says `phases`, the seconds of each, as they are known.

  `job` has the `checkpoint`, the folder of `dialogues`, and `run_dir`, that of our round, which
  says how many there are of each; `samples` of a query, `new_tokens` and `batch` as in its config;
  and the five `stages` by name.
  """
  torch.manual_seed(0)
  first = Path(job["run_dir"]) / "rounds" / "01"
  golden_count, query_count = (
    len((first / f"{name}_samples.jsonl").read_text().splitlines()) for name in ("golden", "policy")
  )
  tokenizer = transformers.AutoTokenizer.from_pretrained(job["checkpoint"], padding_side="left")
  dialogues = Dialogues(tokenizer, job["longest_query"], job["new_tokens"])
  folder = Path(job["dialogues"])
  golden = [
    dialogues.row(row["query"], row["golden"]) for row in _read(folder, "golden", golden_count)
  ]
  queries = [dialogues.query(row["query"]) for row in _read(folder, "queries", query_count)]
  batches = -(-golden_count // job["batch"])
  preferences = [
    [dialogues.row(*_parted(row[side])) for side in ("chosen", "rejected")]
    for row in _read(folder, "preferences", batches * job["batch"])
  ]
  player = Player(job, tokenizer)
  seconds: dict[str, float] = {}
  stages = iter(job["stages"])
  began = time.perf_counter()

  def done() -> None:
    nonlocal began
    synchronize()
    seconds[next(stages)] = time.perf_counter() - began
    say(phases=seconds)
    began = time.perf_counter()

  samples = player.sample([query for query, _ in golden])
  done()
  groups = [[best, *rows] for best, rows in zip(golden, samples, strict=True)]
  player.train_reward(groups, preferences)
  done()
  drawn = player.sample(queries)
  done()
  rewards = player.rewards([row for rows in drawn for row in rows]).reshape(len(drawn), -1)
  pairs = [
    (rows[int(best)], rows[int(worst)])
    for rows, best, worst in zip(drawn, rewards.argmax(1), rewards.argmin(1), strict=True)
  ]
  reference = player.reference_logprobs(pairs)
  done()
  player.train_policy(pairs, reference)
  done()


class Dialogues:
  """Texts as ids, by the checkpoint's own template."""

  def __init__(self, tokenizer: Any, longest_query: int, longest_response: int):
    self._tokenizer = tokenizer
    self._longest = longest_query, longest_response

  def query(self, text: str) -> Ids:
    """A query's last ids, up to where the answer begins."""
    turns = re.findall(r"(Human|Assistant):(.*?)(?=\n\nHuman:|\n\nAssistant:|\Z)", text, re.DOTALL)
    messages = [
      {"role": "user" if who == "Human" else "assistant", "content": said.strip()}
      for who, said in turns
      if said.strip()
    ]
    rendered = self._tokenizer.apply_chat_template(
      messages, add_generation_prompt=True, tokenize=False
    )
    ids = self._tokenizer(rendered, add_special_tokens=False).input_ids
    return ids[-self._longest[0] :]

  def row(self, query: str, response: str) -> Row:
    """Both, the response with its end."""
    ids = self._tokenizer(response.strip(), add_special_tokens=False).input_ids
    return self.query(query), [*ids[: self._longest[1] - 1], self._tokenizer.eos_token_id]


class Player:
  """The two models and what is done with them."""

  def __init__(self, job: Mapping[str, Any], tokenizer: Any):
    self._job, self._end = job, tokenizer.eos_token_id
    self._pad = self._end if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def adapted(kind: Any, task: str, **options: Any) -> Any:
      model = kind.from_pretrained(job["checkpoint"], dtype=torch.bfloat16, **options).to(DEVICE)
      model.config.pad_token_id = self._pad
      adapters = peft.LoraConfig(r=16, lora_alpha=32, target_modules=ADAPTED, task_type=task)
      return peft.get_peft_model(model, adapters)

    self._policy = adapted(transformers.AutoModelForCausalLM, "CAUSAL_LM")
    kind = transformers.AutoModelForSequenceClassification
    self._reward = adapted(kind, "SEQ_CLS", num_labels=1)

  @torch.no_grad()
  def sample(self, queries: Sequence[Ids]) -> list[list[Row]]:
    """Several responses to each."""
    self._policy.eval()
    count, found = self._job["samples"], []
    for part in _parts(queries, ROWS_AT_ONCE["sample"]):
      ids, mask = self._padded(part, left=True)
      drawn = self._policy.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_return_sequences=count,
        max_new_tokens=self._job["new_tokens"],
        pad_token_id=self._pad,
        eos_token_id=self._end,
      )[:, ids.shape[1] :].tolist()
      for place, query in enumerate(part):
        responses = drawn[place * count : (place + 1) * count]
        found.append([(query, self._ended(response)) for response in responses])
    return found

  def _ended(self, response: Ids) -> Ids:
    return response[: response.index(self._end) + 1] if self._end in response else response

  def train_reward(self, groups: Sequence[list[Row]], preferences: Sequence[list[Row]]) -> None:
    """The mean over pairs of golden responses with samples, and that over preferences."""
    step = _Step(self._reward, self._job["reward_rate"])
    size = self._job["batch"]
    for ranked, preferred in zip(_parts(groups, size), _parts(preferences, size), strict=True):
      for whole in (ranked, preferred):
        pairs = sum(len(one) - 1 for one in whole)
        for part in _parts(whole, max(ROWS_AT_ONCE["train"] // len(whole[0]), 1)):
          rewards = self._read_rewards([row for one in part for row in one]).reshape(len(part), -1)
          margins = rewards[:, :1] - rewards[:, 1:]
          (-torch.nn.functional.logsigmoid(margins).sum() / pairs).backward()
      step()

  @torch.no_grad()
  def rewards(self, rows: Sequence[Row]) -> torch.Tensor:
    """One a row."""
    self._reward.eval()
    parts = _parts(rows, ROWS_AT_ONCE["score"])
    return torch.cat([self._read_rewards(part) for part in parts]).cpu()

  @torch.no_grad()
  def reference_logprobs(self, pairs: Sequence[tuple[Row, Row]]) -> torch.Tensor:
    """Those of the policy as it is, of both of every pair."""
    self._policy.eval()
    parts = _parts([row for pair in pairs for row in pair], ROWS_AT_ONCE["train"])
    return torch.cat([self._logprobs(part) for part in parts]).reshape(-1, 2)

  def train_policy(self, pairs: Sequence[tuple[Row, Row]], reference: torch.Tensor) -> None:
    """DPO."""
    step = _Step(self._policy, self._job["policy_rate"])
    size, at_once = self._job["batch"], ROWS_AT_ONCE["train"] // 2
    for whole, given in zip(_parts(pairs, size), _parts(reference, size), strict=True):
      for part, before in zip(_parts(whole, at_once), _parts(given, at_once), strict=True):
        ratios = self._logprobs([row for pair in part for row in pair]).reshape(-1, 2) - before
        losses = -torch.nn.functional.logsigmoid(BETA * (ratios[:, 0] - ratios[:, 1]))
        (losses.sum() / len(whole)).backward()
      step()

  def _read_rewards(self, rows: Sequence[Row]) -> torch.Tensor:
    ids, mask = self._padded([[*query, *response] for query, response in rows])
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
      return self._reward(input_ids=ids, attention_mask=mask).logits[:, 0].float()

  def _logprobs(self, rows: Sequence[Row]) -> torch.Tensor:
    ids, mask = self._padded([[*query, *response] for query, response in rows])
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
      logits = self._policy(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    tokens = -torch.nn.functional.cross_entropy(
      logits.reshape(-1, logits.shape[-1]).float(), ids[:, 1:].reshape(-1), reduction="none"
    ).reshape(len(rows), -1)
    drawn = torch.zeros_like(tokens)
    for row, (query, response) in enumerate(rows):
      drawn[row, len(query) - 1 : len(query) + len(response) - 1] = 1
    return (tokens * drawn).sum(dim=1)

  def _padded(
    self, sequences: Sequence[Ids], *, left: bool = False
  ) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), self._pad)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(sequences):
      there = slice(width - len(one), width) if left else slice(len(one))
      ids[row, there], mask[row, there] = torch.tensor(one), 1
    return ids.to(DEVICE), mask.to(DEVICE)


class _Step:
  """AdamW with clipping, on what is trained of a model."""

  def __init__(self, model: torch.nn.Module, rate: float):
    model.train()
    self._trained = [one for one in model.parameters() if one.requires_grad]
    self._optimizer = torch.optim.AdamW(self._trained, lr=rate, weight_decay=0.0)

  def __call__(self) -> None:
    torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
    self._optimizer.step()
    self._optimizer.zero_grad(set_to_none=True)


def _read(folder: Path, name: str, count: int) -> list[dict[str, str]]:
  with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
    return [json.loads(line) for line in itertools.islice(lines, count)]


def _parted(dialogue: str) -> tuple[str, str]:
  """A dialogue's query and last response."""
  query, mark, response = dialogue.rpartition("\n\nAssistant:")
  return query + mark, response


def _parts(values: Any, size: int) -> list[Any]:
  """A sequence or a tensor in parts of so many; the last may have fewer."""
  return [values[first : first + size] for first in range(0, len(values), size)]
