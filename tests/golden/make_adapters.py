"""Makes adapters.json: weights as the peft library merges adapters into them.

    pip install torch transformers peft
    python tests/golden/make_adapters.py

The base is the case "llama" of hugging_face/. No weights are stored: base and adapters alike are
made from their names (hugging_face_weights.py). Of every merged tensor that the adapters change,
two numbers are stored.
"""

import json
import pathlib
import sys
import tempfile

import peft
import safetensors.torch
import torch
import transformers

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))
from tests.golden.hugging_face_weights import summary, weights  # noqa: E402

ATTENTION = ["q_proj", "v_proj"]
CASES = {
  "plain": {"r": 3, "lora_alpha": 6, "target_modules": [*ATTENTION, "k_proj", "o_proj"]},
  "mlp": {"r": 2, "lora_alpha": 8, "target_modules": ["gate_proj", "up_proj", "down_proj"]},
  "rslora": {"r": 4, "lora_alpha": 6, "target_modules": ATTENTION, "use_rslora": True},
  "patterns": {
    "r": 4,
    "lora_alpha": 8,
    "target_modules": [*ATTENTION, "down_proj"],
    "rank_pattern": {"down_proj": 2, r"layers\.1\.self_attn\.q_proj": 3},
    "alpha_pattern": {"q_proj": 5, "model.layers.2.self_attn.v_proj": 1},
  },
  "tables": {"r": 2, "lora_alpha": 6, "target_modules": ["embed_tokens", "lm_head", "q_proj"]},
  "saved": {
    "r": 2,
    "lora_alpha": 6,
    "target_modules": ATTENTION,
    "modules_to_save": ["lm_head", "embed_tokens"],
  },
  "reward": {"r": 2, "lora_alpha": 6, "target_modules": ATTENTION, "task_type": "SEQ_CLS"},
}


def main() -> None:
  golden = json.loads((HERE / "hugging_face" / "llama.json").read_text())
  made = {name: make(golden, settings) for name, settings in CASES.items()}
  versions = f"peft {peft.__version__}, transformers {transformers.__version__}"
  text = json.dumps({"versions": versions, "cases": made}, separators=(",", ":"))
  (HERE / "adapters.json").write_text(text + "\n")


def make(golden: dict, settings: dict) -> dict:
  """The files of one adapter folder, by their shapes, and its merged tensors."""
  is_reward = settings.get("task_type") == "SEQ_CLS"
  config = transformers.LlamaConfig(**golden["config"], **({"num_labels": 1} if is_reward else {}))
  kind = "SequenceClassification" if is_reward else "CausalLM"
  model = getattr(transformers, f"LlamaFor{kind}")(config)
  fill(model, golden["norm_center"])
  before = {name: value.clone() for name, value in model.state_dict().items()}
  given = peft.LoraConfig(**({"task_type": "CAUSAL_LM"} | settings))
  adapted = peft.get_peft_model(model, given)
  with tempfile.TemporaryDirectory() as folder:
    adapted.save_pretrained(folder)
    path = pathlib.Path(folder)
    shapes = {
      name: list(value.shape)
      for name, value in safetensors.torch.load_file(path / "adapter_model.safetensors").items()
    }
    adapter = {
      name: torch.from_numpy(weights(name, tuple(size), 0.0)) for name, size in shapes.items()
    }
    safetensors.torch.save_file(adapter, path / "adapter_model.safetensors")
    config_json = json.loads((path / "adapter_config.json").read_text())
    again = getattr(transformers, f"LlamaFor{kind}")(config)
    again.load_state_dict(before)
    merged = peft.PeftModel.from_pretrained(again, folder).merge_and_unload().state_dict()
  changed = {
    name: summary(name, value.numpy())
    for name, value in merged.items()
    if not torch.equal(value, before[name])
  }
  return {"config": config_json, "tensors": shapes, "merged": changed}


@torch.no_grad()
def fill(model: torch.nn.Module, norm_center: float) -> None:
  for name, parameter in model.named_parameters():
    parameter.copy_(torch.from_numpy(weights(name, tuple(parameter.shape), norm_center)))


if __name__ == "__main__":
  main()
