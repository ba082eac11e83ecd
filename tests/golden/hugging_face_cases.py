"""The tiny models of make_hugging_face.py: a config.json each, as the hub has them."""

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
