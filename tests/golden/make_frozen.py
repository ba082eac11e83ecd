"""Runs with every type of frozen weights: imported, one policy step, exported.

    python -m tests.golden.make_frozen OUTPUT
    python tests/golden/check_frozen.py OUTPUT     # with torch, transformers, peft, bitsandbytes

OUTPUT gets the base checkpoint and, for each type, an export of the adapters, one of the whole
model, and TYPE.json: what our policy computes beside frozen weights of that type.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from safetensors.numpy import save_file

from apo_jax.export.run import export
from apo_jax.models.definition import join
from apo_jax.policy_step import make_policy_update
from apo_jax.run.origins import find_origins
from apo_jax.run.starts import frozen_policy
from apo_jax.training.checkpoints import open_phase
from apo_jax.training.optimization import init_state, make_optimizer
from tests import batches, finished_run, tiny
from tests.golden.hugging_face_weights import weights

TYPES = ("float32", "bfloat16", "int8", "nf4")
VOCABULARY = 400
TOKENS = ((5, 70, 31, 288, 9, 120), (399, 6, 6, 54, 210, 77))
# Every projection has whole blocks of 64 inputs, a head's 64 among them.
CONFIG = {
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "hidden_size": 128,
  "intermediate_size": 192,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "num_key_value_heads": 1,
  "head_dim": 64,
  "hidden_act": "silu",
  "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0,
  "max_position_embeddings": 256,
  "vocab_size": VOCABULARY,
  "tie_word_embeddings": False,
  "torch_dtype": "float32",
}


def main() -> None:
  """Writes everything below the directory of the first argument."""
  output = Path(sys.argv[1]).absolute()
  base = write_base(output / "base")
  for frozen_dtype in TYPES:
    make(output, base, frozen_dtype)
    print(frozen_dtype, flush=True)


def make(output: Path, base: Path, frozen_dtype: str) -> None:
  """One type's run, exports and numbers."""
  run_dir = output / "runs" / frozen_dtype
  config = finished_run.make(
    run_dir,
    model__checkpoint=str(base),
    model__frozen_dtype=frozen_dtype,
    policy__lora__rank=4,
    policy__training__warmup_steps=0,
    policy__training__learning_rate=1e-3,
  )
  definition = finished_run.definition(config, "01_policy")
  frozen = frozen_policy(find_origins(config), definition)
  optimizer = make_optimizer(config.policy.training, 10)
  update = make_policy_update(
    definition, optimizer, config.policy.loss, tiny.mesh(), accumulation=1
  )
  start = finished_run.trained("01_policy", definition)
  state, _ = update(
    init_state(definition, optimizer, start), batches.policy_batch(), frozen, tiny.NO_KEY
  )
  with open_phase(run_dir / "checkpoints" / "01_policy", keep=1) as checkpoints:
    checkpoints.save(state, 1, {"position": 0})
  tokens = jnp.array(TOKENS)
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  model = definition.bind(join(state.parameters, frozen))
  logits = jax.jit(lambda: model.logits(model(tokens, jnp.ones_like(tokens), positions)[0]))()
  numbers = {"tokens": TOKENS, "logits": logits[..., :VOCABULARY].tolist()}
  (output / f"{frozen_dtype}.json").write_text(json.dumps(numbers))
  export(run_dir, output / "adapters" / frozen_dtype, player="policy", adapter=True)
  export(run_dir, output / "merged" / frozen_dtype, player="policy")


def write_base(directory: Path) -> Path:
  """The checkpoint that all start from."""
  directory.mkdir(parents=True)
  d, f, h, k = 128, 192, 128, 64
  shapes = {
    "model.embed_tokens.weight": (VOCABULARY, d),
    "model.norm.weight": (d,),
    "lm_head.weight": (VOCABULARY, d),
  }
  for layer in range(2):
    at = f"model.layers.{layer}"
    shapes |= {
      f"{at}.input_layernorm.weight": (d,),
      f"{at}.post_attention_layernorm.weight": (d,),
      f"{at}.self_attn.q_proj.weight": (h, d),
      f"{at}.self_attn.k_proj.weight": (k, d),
      f"{at}.self_attn.v_proj.weight": (k, d),
      f"{at}.self_attn.o_proj.weight": (d, h),
      f"{at}.mlp.gate_proj.weight": (f, d),
      f"{at}.mlp.up_proj.weight": (f, d),
      f"{at}.mlp.down_proj.weight": (d, f),
    }
  tensors = {name: weights(name, shape, 1.0) for name, shape in shapes.items()}
  save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
  (directory / "config.json").write_text(json.dumps(CONFIG))
  tiny.codec().tokenizer.save_pretrained(directory)
  return directory


if __name__ == "__main__":
  main()
