"""Writes hugging_face/*.json: what the models of the transformers library compute, by PyTorch.

    pip install torch transformers
    python tests/golden/make_hugging_face.py [SMOLLM2_DIRECTORY]

Each tiny case is a config.json as the hub has them, old and new spellings mixed, and weights made
from the tensors' names. With the directory of SmolLM2-135M-Instruct its numbers are written too.
Everything is float32 with eager attention.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from hugging_face_cases import CASES, ROPES
from hugging_face_weights import summary, weights

OUTPUT = pathlib.Path(__file__).parent / "hugging_face"
LENGTH = 24
PROMPTS = (12, 9)  # tokens of the greedy continuations' prompts
NEW_TOKENS = 12
REWARD_LENGTHS = (24, 15, 19)


def empty(config: dict) -> torch.nn.Module:
  """The model that transformers makes of a config.json."""
  with tempfile.TemporaryDirectory() as directory:
    (pathlib.Path(directory) / "config.json").write_text(json.dumps(config))
    read = transformers.AutoConfig.from_pretrained(directory)
  auto = transformers.AutoModelForCausalLM
  if config["architectures"][0].endswith("ForSequenceClassification"):
    auto = transformers.AutoModelForSequenceClassification
  model = auto.from_config(read, attn_implementation="eager")
  assert type(model).__name__ == config["architectures"][0]
  return model


def rope_numbers() -> dict:
  """Radians a position for each pair of features, and what both are multiplied by."""
  made = {}
  for name, parameters in ROPES.items():
    kind = name.split("_")[0]
    config = transformers.LlamaConfig(
      hidden_size=64,
      num_attention_heads=4,
      max_position_embeddings=4096,
      rope_parameters={"rope_type": kind, **parameters},
    )
    found = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
    made[name] = {
      "rope_parameters": {"rope_type": kind, **parameters},
      "frequencies": rounded(found.inv_freq),
      "amplitude": float(f"{found.attention_scaling:.7g}"),
    }
  return made


def build(config: dict) -> torch.nn.Module:
  """The model that transformers makes of a config.json, with weights from their names."""
  model = empty(config).float().eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      values = weights(name, tuple(parameter.shape), norm_center(config))
      parameter.copy_(torch.from_numpy(values))
  return model


def norm_center(config: dict) -> float:
  """Gemma's norms scale by one plus their weight."""
  return 0.0 if config["model_type"].startswith("gemma") else 1.0


def tensors_and_gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict:
  loss.backward()
  named = dict(model.named_parameters())
  return {
    "tensors": {name: list(parameter.shape) for name, parameter in named.items()},
    "gradients": {name: summary(name, p.grad.numpy()) for name, p in named.items()},
  }


def policy_numbers(model: torch.nn.Module, config: dict) -> dict:
  drawn = np.random.RandomState(0).randint(3, config["vocab_size"], (2, LENGTH))
  tokens = torch.from_numpy(drawn)
  logits = model(tokens).logits
  loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
  return {
    "tokens": drawn.tolist(),
    "logits": rounded(logits),
    "loss": loss.item(),
    **tensors_and_gradients(model, loss),
    "prompts": [row[:length].tolist() for row, length in zip(drawn, PROMPTS, strict=True)],
    "continuations": [
      greedy(model, row[:length]) for row, length in zip(tokens, PROMPTS, strict=True)
    ],
  }


def greedy(model: torch.nn.Module, prompt: torch.Tensor) -> list[int]:
  """The likeliest tokens behind a prompt, none of them a close call."""
  model.generation_config.eos_token_id = None
  with torch.no_grad():
    out = model.generate(
      prompt[None],
      attention_mask=torch.ones_like(prompt)[None],
      do_sample=False,
      max_new_tokens=NEW_TOKENS,
      output_logits=True,
      return_dict_in_generate=True,
    )
  for logits in out.logits:
    best, second = torch.topk(logits[0], 2).values
    assert best - second > 1e-3, (best, second)
  return out.sequences[0, len(prompt) :].tolist()


def reward_numbers(model: torch.nn.Module, config: dict) -> dict:
  """Rewards of padded sequences, and the ranking loss of the first over the second."""
  shape = (len(REWARD_LENGTHS), LENGTH)
  tokens = np.random.RandomState(0).randint(3, config["vocab_size"], shape)
  mask = np.arange(LENGTH) < np.array(REWARD_LENGTHS)[:, None]
  tokens = np.where(mask, tokens, config["pad_token_id"])
  rewards = model(torch.from_numpy(tokens), attention_mask=torch.from_numpy(mask)).logits[:, 0]
  loss = torch.nn.functional.softplus(rewards[1] - rewards[0])
  return {
    "tokens": tokens.tolist(),
    "lengths": REWARD_LENGTHS,
    "rewards": rounded(rewards),
    "loss": loss.item(),
    **tensors_and_gradients(model, loss),
  }


def smollm2_numbers(directory: str) -> dict:
  """A few of the real model's numbers on real text, and how it answers a question."""
  text = (
    "The river Thames rises in Gloucestershire and flows through London to the North Sea. "
    "In 1858 the smell of its water was so bad that Parliament paid for the city's sewers."
  )
  question = [{"role": "user", "content": "What is the capital of France?"}]
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32, attn_implementation="eager"
  ).eval()
  tokens = tokenizer(text)["input_ids"]
  with torch.no_grad():
    logits = model(torch.tensor([tokens])).logits[0]
  logprobs = torch.log_softmax(logits[:-1], dim=-1)[torch.arange(len(tokens) - 1), tokens[1:]]
  prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
  prompt_tokens = tokenizer(prompt, add_special_tokens=False)["input_ids"]
  top = torch.topk(logits, 5)
  return {
    "text": text,
    "tokens": tokens,
    "top_ids": top.indices.tolist(),
    "top_logits": rounded(top.values),
    "logprobs": rounded(logprobs),
    "prompt": prompt,
    "prompt_tokens": prompt_tokens,
    "continuation": greedy(model, torch.tensor(prompt_tokens)),
  }


def rounded(values: torch.Tensor) -> list:
  """Nested lists, seven digits each: all that float32 holds."""
  array = values.detach().numpy()
  if array.ndim > 1:
    return [rounded(torch.from_numpy(part)) for part in array]
  return [float(f"{value:.7g}") for value in array]


def write(name: str, numbers: dict) -> None:
  text = json.dumps(numbers, separators=(",", ":"))
  (OUTPUT / f"{name}.json").write_text(text + "\n")
  print(f"{name}: {len(text):,} bytes")


def main() -> None:
  OUTPUT.mkdir(exist_ok=True)
  versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
  write("rope", {"versions": versions, "ropes": rope_numbers()})
  for name, config in CASES.items():
    model = build(config)
    numbers = reward_numbers if name.endswith("_reward") else policy_numbers
    made = {"versions": versions, "config": config, "norm_center": norm_center(config)}
    write(name, made | numbers(model, config))
  if len(sys.argv) > 1:
    write("smollm2_135m_instruct", {"versions": versions} | smollm2_numbers(sys.argv[1]))


if __name__ == "__main__":
  main()
