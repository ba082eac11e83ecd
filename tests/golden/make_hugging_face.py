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
from hugging_face_weights import summary, weights

OUTPUT = pathlib.Path(__file__).parent / "hugging_face"
LENGTH = 24
PROMPTS = (12, 9)  # tokens of the greedy continuations' prompts
NEW_TOKENS = 12
REWARD_LENGTHS = (24, 15, 19)

COMMON = {
  "vocab_size": 67,
  "hidden_size": 24,
  "intermediate_size": 40,
  "num_hidden_layers": 4,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "rms_norm_eps": 1e-05,
  "max_position_embeddings": 512,
  "bos_token_id": 1,
  "eos_token_id": 2,
  "pad_token_id": 0,
}
SILU = COMMON | {"hidden_act": "silu"}
GEMMA = COMMON | {
  "head_dim": 8,
  "hidden_activation": "gelu_pytorch_tanh",
  "query_pre_attn_scalar": 24,
  "sliding_window": 6,
}

CASES = {
  # Llama 1 and 2: every query head has its own key head, no mention of theta.
  "llama": SILU
  | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
  },
  # Wavelengths fall below, between and above the two limits of the scaling.
  "llama3": SILU
  | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "head_dim": 16,
    "rope_theta": 10000.0,
    "rope_scaling": {
      "factor": 8.0,
      "low_freq_factor": 1.0,
      "high_freq_factor": 4.0,
      "original_max_position_embeddings": 128,
      "rope_type": "llama3",
    },
    "tie_word_embeddings": False,
  },
  "smollm2": SILU
  | {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    "tie_word_embeddings": True,
  },
  "smollm3": SILU
  | {
    "architectures": ["SmolLM3ForCausalLM"],
    "model_type": "smollm3",
    "no_rope_layers": [1, 0, 1, 0],
    "rope_theta": 2000000.0,
    "tie_word_embeddings": True,
  },
  "mistral": SILU
  | {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "head_dim": 8,
    "rope_theta": 10000.0,
    "sliding_window": 5,
    "tie_word_embeddings": False,
  },
  "qwen2": SILU
  | {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "max_window_layers": 2,
    "rope_theta": 1000000.0,
    "sliding_window": 6,
    "tie_word_embeddings": False,
    "use_sliding_window": True,
  },
  "qwen3": SILU
  | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 8,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
  },
  # Fused projections, short factors of longrope on a part of each head, a window in every layer.
  "phi3": SILU
  | {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "embd_pdrop": 0.0,
    "original_max_position_embeddings": 64,
    "partial_rotary_factor": 0.75,
    "resid_pdrop": 0.0,
    "rope_scaling": {
      "long_factor": [3.0, 7.0],
      "short_factor": [1.0, 1.4],
      "type": "longrope",
    },
    "rope_theta": 10000.0,
    "sliding_window": 7,
    "tie_word_embeddings": False,
  },
  "olmo2": SILU
  | {
    "architectures": ["Olmo2ForCausalLM"],
    "model_type": "olmo2",
    "attention_bias": False,
    "rope_scaling": None,
    "rope_theta": 500000,
    "tie_word_embeddings": False,
  },
  # Three layers with a window, the last without it and with its frequencies spread.
  "olmo3": SILU
  | {
    "architectures": ["Olmo3ForCausalLM"],
    "model_type": "olmo3",
    "attention_bias": False,
    "head_dim": 12,
    "rope_scaling": {
      "attention_factor": 1.2,
      "beta_fast": 4.0,
      "beta_slow": 0.02,
      "factor": 8.0,
      "original_max_position_embeddings": 64,
      "rope_type": "yarn",
    },
    "rope_theta": 500000,
    "sliding_window": 6,
    "tie_word_embeddings": False,
  },
  "granite": SILU
  | {
    "architectures": ["GraniteForCausalLM"],
    "model_type": "granite",
    "attention_multiplier": 0.3,
    "embedding_multiplier": 3.0,
    "logits_scaling": 0.5,
    "residual_multiplier": 0.6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
  },
  "gemma2": GEMMA
  | {
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 3.0,
    "rope_theta": 10000.0,
  },
  "gemma3_text": GEMMA
  | {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "rope_local_base_freq": 10000.0,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "rope_theta": 1000000.0,
    "sliding_window_pattern": 3,
  },
  "llama_reward": SILU
  | {
    "architectures": ["LlamaForSequenceClassification"],
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "model_type": "llama",
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
  },
}

# Ways to stretch positions, of heads of 16 features and a context of 4096.
ROPES = {
  "default": {"rope_theta": 5e5},
  "linear": {"rope_theta": 1e6, "factor": 8.0},
  "llama3": {
    "rope_theta": 5e5,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
  },
  "yarn": {"rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 1024},
  "yarn_at_fractions": {
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 1024,
    "truncate": False,
    "beta_fast": 16,
    "beta_slow": 2,
  },
  "yarn_by_mscale": {
    "rope_theta": 1e4,
    "factor": 40.0,
    "original_max_position_embeddings": 100,
    "mscale": 1.0,
    "mscale_all_dim": 0.7,
  },
  "longrope": {
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.0, 1.1, 1.3, 1.6, 2.0, 2.5, 3.1],
    "long_factor": [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
    "original_max_position_embeddings": 512,
  },
}


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
  with tempfile.TemporaryDirectory() as directory:
    (pathlib.Path(directory) / "config.json").write_text(json.dumps(config))
    read = transformers.AutoConfig.from_pretrained(directory)
  is_reward = config["architectures"][0].endswith("ForSequenceClassification")
  auto = (
    transformers.AutoModelForSequenceClassification
    if is_reward
    else transformers.AutoModelForCausalLM
  )
  model = auto.from_config(read, attn_implementation="eager").float().eval()
  assert type(model).__name__ == config["architectures"][0]
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
  write("rope", {"versions": versions} | rope_numbers())
  for name, config in CASES.items():
    model = build(config)
    numbers = reward_numbers if name.endswith("_reward") else policy_numbers
    made = {"versions": versions, "config": config, "norm_center": norm_center(config)}
    write(name, made | numbers(model, config))
  if len(sys.argv) > 1:
    write("smollm2_135m_instruct", {"versions": versions} | smollm2_numbers(sys.argv[1]))


if __name__ == "__main__":
  main()
