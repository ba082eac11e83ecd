"""Tiny Hugging Face checkpoints with random weights, written without PyTorch."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from apo_jax.data.tokens import train_tokenizer
from apo_jax.data.toy import dialogues

CHATML = (
  "{% for m in messages %}{{ '<bos>' if loop.first }}<|{{ m['role'] }}|>{{ m['content'] }}<eos>"
  "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Of a game from such a checkpoint: the template's turns take more tokens than the demo's.
ROOM = {"data.query_length": 48, "data.query_buckets": (48,), "data.row_length": 72}
VOCABULARY = 330
CONFIG = {
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "hidden_size": 32,
  "intermediate_size": 64,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "head_dim": 8,
  "hidden_act": "silu",
  "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0,
  "max_position_embeddings": 256,
  "vocab_size": VOCABULARY,
  "tie_word_embeddings": True,
  "attention_bias": False,
  "mlp_bias": False,
  "torch_dtype": "float32",
}


def write(
  directory: Path, *, reward: bool = False, chat_template: str | None = CHATML, seed: int = 0
) -> Path:
  """A language model, or with `reward` a sequence classifier, and a tokenizer whose pad is eos."""
  directory.mkdir(parents=True, exist_ok=True)
  name = "LlamaForSequenceClassification" if reward else "LlamaForCausalLM"
  labels = {"num_labels": 1, "id2label": {"0": "reward"}, "label2id": {"reward": 0}}
  config = CONFIG | {"architectures": [name]} | (labels if reward else {})
  (directory / "config.json").write_text(json.dumps(config))
  save_file(_tensors(reward, np.random.default_rng(seed)), directory / "model.safetensors")
  data = dialogues.generate(
    0, num_demonstrations=200, num_preferences=50, num_golden=50, num_queries=50, num_test=50
  )
  texts = [text for record in data.demonstrations for text in (record.query, record.response)]
  tokenizer = train_tokenizer(texts, VOCABULARY)
  tokenizer.pad_token = tokenizer.eos_token
  tokenizer.chat_template = chat_template
  tokenizer.save_pretrained(directory)
  return directory


def _tensors(reward: bool, rng: np.random.Generator) -> dict[str, np.ndarray]:
  d, f, h, k, n = 32, 64, 4, 2, 8

  def weight(rows: int, columns: int) -> np.ndarray:
    return (rng.normal(size=(rows, columns)) * columns**-0.5).astype(np.float32)

  ones = np.ones(d, np.float32)
  tensors = {"model.embed_tokens.weight": weight(VOCABULARY, d), "model.norm.weight": ones}
  for layer in range(2):
    at = f"model.layers.{layer}"
    tensors |= {
      f"{at}.input_layernorm.weight": ones.copy(),
      f"{at}.post_attention_layernorm.weight": ones.copy(),
      f"{at}.self_attn.q_proj.weight": weight(h * n, d),
      f"{at}.self_attn.k_proj.weight": weight(k * n, d),
      f"{at}.self_attn.v_proj.weight": weight(k * n, d),
      f"{at}.self_attn.o_proj.weight": weight(d, h * n),
      f"{at}.mlp.gate_proj.weight": weight(f, d),
      f"{at}.mlp.up_proj.weight": weight(f, d),
      f"{at}.mlp.down_proj.weight": weight(d, f),
    }
  return tensors | ({"score.weight": weight(1, d)} if reward else {})
