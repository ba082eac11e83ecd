"""Writes reward_terms.json: what the authors' code of GRM and MORE says of their losses.

    python tests/golden/make_reward_terms.py GRM_DIRECTORY MORE_DIRECTORY

It needs PyTorch and copies of the two repositories: YangRui2015/Generalizable-Reward-Model at
commit 3c31be2, dunzeng/MORE at 94c54e4. Their functions are called as they are, on random rewards,
logits and embeddings in the place of a model's. What they import beside is not needed and is
replaced by empty modules.
"""

import importlib.util
import json
import pathlib
import sys
import types
from unittest import mock

import torch

GRM_KINDS = {
  "sft": {"sft_only": True, "no_logsigmoid_sft": False},
  "sft_no_sigmoid": {"sft_only": True, "no_logsigmoid_sft": True},
  "dpo": {"sft_only": False, "no_logsigmoid_sft": False},
}
# What the code calls its normalisations.
MORE_KINDS = {"none": "none", "loss": "loss", "loss_and_norm": "loss+", "l2": "l2"}
SEEDS = (2, 0, 1, 5)  # the first of parallel gradients, which "l2" makes equal but for rounding
SUBSETS = ((1, 3), (0, 3), (0, 4))  # seeds and numbers of tasks
PAIRS, LENGTH, VOCABULARY, FEATURES = 3, 5, 6, 4
IGNORED = -100


class Anything(types.ModuleType):
  """A module of whatever name is asked for."""

  def __getattr__(self, name: str) -> type:
    if name.startswith("__"):
      raise AttributeError(name)
    return type(name, (), {})


def load(path: pathlib.Path, missing: tuple[str, ...]) -> types.ModuleType:
  """A module of a file, with the folder it lies in importable."""
  modules = {name: Anything(name) for name in missing}
  with mock.patch.dict(sys.modules, modules), mock.patch.object(sys, "path", [str(path.parent)]):
    sys.path += [one for one in ORIGINAL_PATH if one not in sys.path]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
  return module


ORIGINAL_PATH = list(sys.path)


def grm_case(module: types.ModuleType, kind: str, weight_ratio: float, beta: float) -> dict:
  """The loss of interleaved chosen and rejected responses, and its gradients."""
  torch.manual_seed(len(kind))
  rewards = torch.randn(2 * PAIRS, requires_grad=True)
  logits = torch.randn(2 * PAIRS, LENGTH, VOCABULARY, requires_grad=True)
  labels = torch.randint(VOCABULARY, (2 * PAIRS, LENGTH))
  labels[:, 0] = IGNORED  # the query
  labels[::3, 1] = IGNORED
  labels[1::2, 4:] = IGNORED  # padding
  trainer_class = module.GRMRewardTrainer
  trainer = types.SimpleNamespace(
    reference_free=True, weight_ratio=weight_ratio, beta=beta, label_pad_token_id=IGNORED
  )
  vars(trainer).update(GRM_KINDS[kind])
  trainer.get_batch_logps = types.MethodType(trainer_class.get_batch_logps, trainer)
  inputs = {"input_ids": labels, "attention_mask": labels, "label": labels}
  loss = trainer_class.compute_loss(trainer, lambda **_: (logits, None, rewards), inputs)
  loss.backward()
  return {
    "kind": kind,
    "weight_ratio": weight_ratio,
    "beta": beta,
    "rewards": rewards.tolist(),
    "logits": logits.tolist(),
    "labels": labels.tolist(),
    "loss": loss.item(),
    "rewards_gradient": rewards.grad.tolist(),
    "logits_gradient": logits.grad.tolist(),
  }


def more_case(module: types.ModuleType, kind: str, seed: int, num_tasks: int = 2) -> dict:
  """The loss of tasks of as many pairs, its weights, and gradients by head and embeddings."""
  torch.manual_seed(seed)
  weight = torch.randn(FEATURES, requires_grad=True)
  embeddings = torch.randn(num_tasks * PAIRS, 2, FEATURES, requires_grad=True)
  with torch.no_grad():
    for task in range(1, num_tasks):
      embeddings[task * PAIRS : (task + 1) * PAIRS] *= 1.0 + task * seed / 2  # other lengths
    if seed == 2 and num_tasks == 2:
      # The second task asks for more of what the first one does: outside the simplex.
      embeddings[PAIRS:, 1] = embeddings[:PAIRS, 1]
      wider = 9 * (embeddings[:PAIRS, 0] - embeddings[:PAIRS, 1])
      embeddings[PAIRS:, 0] = embeddings[:PAIRS, 1] + wider
  scores = torch.tensor([[1.0, 0.0]] * (num_tasks * PAIRS))
  tasks = [task for task in range(num_tasks) for _ in range(PAIRS)]
  found: list = []

  def model(**_):
    return {"rm_embeddings": embeddings, "rm_logits": embeddings @ weight}

  model.device = "cpu"
  model.named_parameters = lambda: [("module.reward_head.weight", weight)]
  trainer = types.SimpleNamespace(
    args=types.SimpleNamespace(
      debug_mode=False,
      resampling=False,
      reweight=True,
      task_num=num_tasks,
      alpha=1.0,
      normalize=MORE_KINDS[kind],
      padding_side="right",
      pooling_type="last",
    ),
    more_base=torch.nn.Linear(FEATURES, 1, bias=False),
    grad_m=[torch.zeros(FEATURES) for _ in range(num_tasks)],
  )

  def noted(*arguments):
    found.append(module.RewardModelTrainer.compute_lambda_noresampling(trainer, *arguments))
    return found[0]

  trainer.compute_lambda_noresampling = noted
  get = types.SimpleNamespace(safe_get_full_fp32_param=lambda one: one.detach())
  tokens = torch.zeros(num_tasks * PAIRS, 2, 3, dtype=torch.long)
  batch = {"score": scores, "input_ids": tokens, "attention_mask": tokens}
  with mock.patch.object(module, "deepspeed", types.SimpleNamespace(utils=get)):
    loss = module.RewardModelTrainer.compute_more_loss(trainer, model, (batch, tasks))
  loss.backward()
  return {
    "normalisation": kind,
    "head": weight.tolist(),
    "embeddings": embeddings.tolist(),
    "scores": scores.tolist(),
    "weights": [float(one) for one in found[0]],
    "loss": loss.item(),
    "embeddings_gradient": embeddings.grad.tolist(),
  }


def main() -> None:
  """Writes the file beside this one."""
  grm_directory, more_directory = map(pathlib.Path, sys.argv[1:])
  grm = load(
    grm_directory / "reward_models" / "grm_reward_trainer.py",
    ("base_trainer", "utils", "accelerate", "transformers", "transformers.utils"),
  )
  more = load(
    more_directory / "trainer.py",
    (
      *("deepspeed", "transformers", "transformers.data", "transformers.data.data_collator"),
      *("transformers.modeling_utils", "transformers.tokenization_utils_base", "reward_datasets"),
      *("transformers.trainer_callback", "transformers.training_args", "trainer_utils", "sklearn"),
      *("sklearn.calibration", "tqdm", "datasets", "utils"),
    ),
  )
  # The one function of its utils that counts, whose file imports much more.
  source = (more_directory / "utils.py").read_text()
  start = source.index("def gradient_normalizer")
  space = {"torch": torch, "np": more.np}
  exec(source[start : source.index("\ndef ", start)], space)
  more.gradient_normalizer = space["gradient_normalizer"]
  cases = {
    "grm": [grm_case(grm, kind, 0.01, beta) for kind in GRM_KINDS for beta in (0.1, 0.7)],
    "more": [
      more_case(more, kind, seed)
      for kind in MORE_KINDS
      for seed in SEEDS[1 if kind == "l2" else 0 :]
    ],
    "more_of_subsets": [
      more_case(more, kind, seed, num_tasks) for kind in MORE_KINDS for seed, num_tasks in SUBSETS
    ],
  }
  path = pathlib.Path(__file__).with_name("reward_terms.json")
  path.write_text(json.dumps(_rounded(cases)) + "\n")


def _rounded(value: object) -> object:
  """To seven places, of which float32 has no more near 1."""
  if isinstance(value, dict):
    return {name: _rounded(one) for name, one in value.items()}
  if isinstance(value, list):
    return [_rounded(one) for one in value]
  return round(value, 7) if isinstance(value, float) else value


if __name__ == "__main__":
  main()
