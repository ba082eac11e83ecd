"""Writes hugging_face/published.json: published models' shapes and numbers of parameters.

    pip install torch transformers
    python tests/golden/make_published.py

Counted by PyTorch's models without memory, of a multimodal one the language model alone.
"""

import json
import pathlib

import torch
import transformers
from make_hugging_face import empty

OUTPUT = pathlib.Path(__file__).parent / "hugging_face" / "published.json"
IMAGES = ("model.vision_tower", "model.multi_modal_projector")

LLAMA_3_2 = {
  "architectures": ["LlamaForCausalLM"],
  "attention_bias": False,
  "attention_dropout": 0.0,
  "bos_token_id": 128000,
  "eos_token_id": [128001, 128008, 128009],
  "head_dim": 128,
  "hidden_act": "silu",
  "initializer_range": 0.02,
  "max_position_embeddings": 131072,
  "mlp_bias": False,
  "model_type": "llama",
  "num_key_value_heads": 8,
  "pretraining_tp": 1,
  "rms_norm_eps": 1e-05,
  "rope_scaling": {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
  },
  "rope_theta": 500000.0,
  "tie_word_embeddings": True,
  "torch_dtype": "bfloat16",
  "transformers_version": "4.45.0.dev0",
  "use_cache": True,
  "vocab_size": 128256,
}
QWEN3 = {
  "architectures": ["Qwen3ForCausalLM"],
  "attention_bias": False,
  "attention_dropout": 0.0,
  "bos_token_id": 151643,
  "eos_token_id": 151645,
  "head_dim": 128,
  "hidden_act": "silu",
  "initializer_range": 0.02,
  "max_position_embeddings": 40960,
  "model_type": "qwen3",
  "num_key_value_heads": 8,
  "rms_norm_eps": 1e-06,
  "rope_scaling": None,
  "rope_theta": 1000000,
  "sliding_window": None,
  "torch_dtype": "bfloat16",
  "transformers_version": "4.51.0",
  "use_cache": True,
  "use_sliding_window": False,
  "vocab_size": 151936,
}
PHI = {
  "architectures": ["Phi3ForCausalLM"],
  "attention_bias": False,
  "attention_dropout": 0.0,
  "auto_map": {
    "AutoConfig": "configuration_phi3.Phi3Config",
    "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
  },
  "embd_pdrop": 0.0,
  "hidden_act": "silu",
  "model_type": "phi3",
  "resid_pdrop": 0.0,
  "rms_norm_eps": 1e-05,
}
OLMO = {
  "attention_bias": False,
  "attention_dropout": 0.0,
  "eos_token_id": 100257,
  "hidden_act": "silu",
  "pad_token_id": 100277,
  "rms_norm_eps": 1e-06,
  "rope_theta": 500000,
  "tie_word_embeddings": False,
  "vocab_size": 100352,
}

# What config.json of published models says that gives their shapes.
PUBLISHED = {
  "meta-llama/Llama-3.2-1B": LLAMA_3_2
  | {
    "head_dim": 64,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
  },
  "meta-llama/Llama-3.2-3B": LLAMA_3_2
  | {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_attention_heads": 24,
    "num_hidden_layers": 28,
  },
  "meta-llama/Llama-3.3-70B-Instruct": LLAMA_3_2
  | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "rope_scaling": LLAMA_3_2["rope_scaling"] | {"factor": 8.0},
    "tie_word_embeddings": False,
  },
  "Qwen/Qwen3-0.6B": QWEN3
  | {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_window_layers": 28,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "tie_word_embeddings": True,
  },
  "Qwen/Qwen3-8B": QWEN3
  | {
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_window_layers": 36,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "tie_word_embeddings": False,
  },
  "microsoft/Phi-3-mini-4k-instruct": PHI
  | {
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
    "vocab_size": 32064,
  },
  "microsoft/Phi-4-mini-instruct": PHI
  | {
    "full_attn_mod": 1,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "interpolate_factor": 1,
    "lm_head_bias": False,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 24,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "original_max_position_embeddings": 4096,
    "partial_rotary_factor": 0.75,
    # The factors themselves are not the published ones.
    "rope_scaling": {"long_factor": [2.0] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
    "rope_theta": 10000.0,
    "sliding_window": 262144,
    "tie_word_embeddings": True,
    "vocab_size": 200064,
  },
  "microsoft/phi-4": PHI
  | {
    "hidden_size": 5120,
    "intermediate_size": 17920,
    "max_position_embeddings": 16384,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "num_key_value_heads": 10,
    "original_max_position_embeddings": 16384,
    "rope_scaling": None,
    "rope_theta": 250000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 100352,
  },
  "allenai/OLMo-2-0425-1B": OLMO
  | {
    "architectures": ["Olmo2ForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 4096,
    "model_type": "olmo2",
    "num_attention_heads": 16,
    "num_hidden_layers": 16,
    "num_key_value_heads": 16,
    "rope_scaling": None,
  },
  "allenai/Olmo-3-7B-Instruct": OLMO
  | {
    "architectures": ["Olmo3ForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 8,
    "max_position_embeddings": 65536,
    "model_type": "olmo3",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rope_scaling": {
      "attention_factor": 1.2079441541679836,
      "beta_fast": 32.0,
      "beta_slow": 1.0,
      "factor": 8.0,
      "original_max_position_embeddings": 8192,
      "rope_type": "yarn",
    },
    "sliding_window": 4096,
    "vocab_size": 100278,
  },
  "ibm-granite/granite-3.3-2b-instruct": {
    "architectures": ["GraniteForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_multiplier": 0.015625,
    "bos_token_id": 0,
    "embedding_multiplier": 12.0,
    "eos_token_id": 0,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "logits_scaling": 8.0,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "granite",
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "pad_token_id": 0,
    "residual_multiplier": 0.22,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000000.0,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": 49159,
  },
  "google/gemma-3-1b-it": {
    "architectures": ["Gemma3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "cache_implementation": "hybrid",
    "eos_token_id": [1, 106],
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
  },
  "google/gemma-3-4b-it": {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
      "hidden_size": 2560,
      "intermediate_size": 10240,
      "model_type": "gemma3_text",
      "num_hidden_layers": 34,
      "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
      "sliding_window": 1024,
    },
    "vision_config": {
      "hidden_size": 1152,
      "image_size": 896,
      "intermediate_size": 4304,
      "model_type": "siglip_vision_model",
      "num_attention_heads": 16,
      "num_hidden_layers": 27,
      "patch_size": 14,
      "vision_use_head": False,
    },
  },
}


def main() -> None:
  made = {}
  for name, config in PUBLISHED.items():
    with torch.device("meta"):
      named = empty(config).named_parameters()
    counted = sum(p.numel() for part, p in named if not part.startswith(IMAGES))
    made[name] = {"config": config, "parameters": counted}
    print(f"{name}: {counted:,} parameters")
  versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
  OUTPUT.write_text(json.dumps({"versions": versions, "models": made}, indent=1) + "\n")


if __name__ == "__main__":
  main()
