"""Writes authors.json: what the authors' own code says of a batch, as value and gradient.

    python tests/golden/make_authors.py --trl=REPOSITORY --spag=REPOSITORY --opo=REPOSITORY

Each is a git repository, bare or not: of huggingface/trl, Linear95/SPAG and
zhaoyang02/ordinal-preference-optimization. The file has the commit that was read. Functions are
taken out of their sources and called with log-probabilities in place of a model's. It needs
PyTorch, and for the sorting network the package `diffsort` of its authors. Nothing of any of them
is kept here.
"""

import argparse
import ast
import collections
import importlib.metadata
import json
import pathlib
import subprocess
import textwrap
import types
import typing

import diffsort
import numpy as np
import torch
import torch.nn.functional as F


def git(repository, *command):
  return subprocess.run(
    ["git", "-C", repository, *command], check=True, capture_output=True, text=True
  ).stdout


def taken(repository, path, names, **stubs):
  """Returns functions of a source by name ("Class.method" for methods), with stubs for the rest."""
  source = git(repository, "show", f"HEAD:{path}").replace("return P_hat.half()", "return P_hat")
  tree = ast.parse(source)
  found = {}
  for node in tree.body:
    inner = node.body if isinstance(node, ast.ClassDef) else []
    for one, prefix in [(node, ""), *((child, f"{node.name}.") for child in inner)]:
      if isinstance(one, ast.FunctionDef) and prefix + one.name in names:
        one.decorator_list = []
        found[prefix + one.name] = ast.unparse(one)
  typing_names = {name: getattr(typing, name) for name in ("Any", "Dict", "List", "Tuple", "Union")}
  space = {"torch": torch, "np": np, "F": F, "nn": torch.nn, **typing_names, **stubs}
  for name in names:
    exec(textwrap.dedent("from __future__ import annotations\n" + found[name]), space)
  return [space[name.split(".")[-1]] for name in names]


class Accelerator:
  """A stand-in for the one process that all runs in."""

  device = "cpu"
  gather = gather_for_metrics = staticmethod(lambda value: value)


def trainer(**fields):
  """A stand-in for a trainer, with the fields that its loss reads."""
  metrics = collections.defaultdict(lambda: collections.defaultdict(list))
  return types.SimpleNamespace(
    **{
      "model": types.SimpleNamespace(training=True),
      "accelerator": Accelerator(),
      "aux_loss_enabled": False,
      "precompute_ref_logps": True,
      "label_smoothing": 0.0,
      "_metrics": metrics,
      "_total_train_tokens": 0,
      **fields,
    }
  )


def pair_batch():
  """Two responses a query, either of them the better."""
  rng = np.random.default_rng(3)
  lengths = rng.integers(2, 9, size=(5, 2))
  logprobs = np.round(-lengths * rng.uniform(0.3, 1.5, size=lengths.shape), 4)
  better = rng.integers(0, 2, size=5)
  return {
    "logprobs": logprobs,
    # On average below the policy's, so that KTO's estimate of the divergence is above 0.
    "reference_logprobs": np.round(logprobs + rng.normal(size=lengths.shape) - 1, 4),
    "lengths": lengths,
    "rewards": np.stack([1.0 - better, 1.0 * better], axis=1),
    "valid": np.ones(lengths.shape, bool),
  }


def list_batch():
  """Four responses a query by falling reward, which runs from 1 to 0 as the authors' labels do."""
  rng = np.random.default_rng(4)
  lengths = rng.integers(2, 9, size=(3, 4))
  logprobs = np.round(-lengths * rng.uniform(0.3, 1.5, size=lengths.shape), 4)
  between = np.sort(np.round(rng.uniform(size=(3, 2)), 4))[:, ::-1]
  return {
    "logprobs": logprobs,
    "reference_logprobs": np.round(logprobs + rng.normal(size=lengths.shape), 4),
    "lengths": lengths,
    "rewards": np.concatenate([np.ones((3, 1)), between, np.zeros((3, 1))], axis=1),
    "valid": np.ones(lengths.shape, bool),
  }


def case(code, objective, options, batch, loss, *, has_gradient=True):
  """A case of the file; `loss` is called with log-probabilities [B, R] in double precision."""
  logprobs = torch.tensor(batch["logprobs"], dtype=torch.float64, requires_grad=True)
  value = loss(logprobs)
  value.backward()
  return {
    "code": code,
    "objective": objective,
    "options": options,
    "arrays": {name: array.tolist() for name, array in batch.items()},
    "loss": value.item(),
    "gradient": logprobs.grad.tolist() if has_gradient else None,
  }


def by_preference(batch, values):
  """Returns [B, R = 2] values of the better and of the worse responses."""
  better = torch.tensor(batch["rewards"].argmax(1))[:, None]
  return values.gather(1, better)[:, 0], values.gather(1, 1 - better)[:, 0]


def tokens_of(lengths):
  """Returns the mask of responses behind a query of one token, [N, 1 + T]."""
  places = torch.arange(1 + int(lengths.max()))[None]
  return ((places >= 1) & (places <= lengths[:, None])).long()


class FixedModel:
  """A model that gives each response a log-probability, spread evenly over its tokens."""

  def __init__(self, logprobs, lengths):
    self.mask = tokens_of(lengths)
    self.per_token = (logprobs / lengths)[:, None] * torch.ones(self.mask.shape[1] - 1)[None]

  def __call__(self, **inputs):
    return types.SimpleNamespace(logits=torch.zeros((*self.mask.shape, 3)))

  def selective_log_softmax(self, logits, labels):
    return self.per_token * 1.0


def no_entropy(logits):
  return torch.zeros(logits.shape[:-1])


def trl_dpo(repository, batch, loss_type, beta):
  """One of the losses of TRL's DPOTrainer."""

  def loss(logprobs):
    reference = torch.tensor(batch["reference_logprobs"])
    lengths = torch.cat(by_preference(batch, torch.tensor(batch["lengths"])))
    model = FixedModel(torch.cat(by_preference(batch, logprobs)), lengths)
    compute = taken(
      repository,
      "trl/trainer/dpo_trainer.py",
      ["DPOTrainer._compute_loss"],
      selective_log_softmax=model.selective_log_softmax,
      entropy_from_logits=no_entropy,
    )[0]
    chosen, rejected = by_preference(batch, reference)
    inputs = {
      "input_ids": torch.zeros(model.mask.shape, dtype=torch.long),
      "attention_mask": torch.ones(model.mask.shape),
      "completion_mask": model.mask,
      "ref_chosen_logps": chosen,
      "ref_rejected_logps": rejected,
    }
    fields = {"loss_types": [loss_type], "loss_weights": [1.0], "f_divergence_type": "reverse_kl"}
    this = trainer(beta=beta, ld_alpha=None, use_weighting=False, **fields)
    return compute(this, model, inputs, False)

  return loss


def trl_kto(repository, batch, options):
  """TRL's KTO loss, its KL estimate on the batch's own responses."""

  def loss(logprobs):
    reference = torch.tensor(batch["reference_logprobs"]).reshape(-1)
    lengths = torch.tensor(batch["lengths"]).reshape(-1)
    model = FixedModel(logprobs.reshape(-1), lengths)
    compute = taken(
      repository,
      "trl/trainer/kto_trainer.py",
      ["KTOTrainer._compute_loss"],
      selective_log_softmax=model.selective_log_softmax,
      entropy_from_logits=no_entropy,
    )[0]
    inputs = {
      "input_ids": torch.zeros(model.mask.shape, dtype=torch.long),
      "attention_mask": torch.ones(model.mask.shape),
      "completion_mask": model.mask,
      "label": torch.tensor(batch["rewards"]).reshape(-1) > 0.5,
      "ref_logps": reference,
      "ref_KL_logps": reference,
    }
    this = trainer(
      loss_type="kto",
      calculate_KL=True,
      _compute_kl_logps=lambda *_: logprobs.reshape(-1).detach(),
      **options,
    )
    return compute(this, model, inputs, False)

  return loss


def trl_simpo(repository, batch, options):
  def loss(logprobs):
    compute = taken(repository, "trl/experimental/cpo/cpo_trainer.py", ["CPOTrainer.cpo_loss"])[0]
    means = by_preference(batch, logprobs / torch.tensor(batch["lengths"]))
    fields = {"beta": options["beta"], "simpo_gamma": options["gamma"], "alpha": 0.0}
    return compute(trainer(loss_type="simpo", **fields), *means)[0].mean()

  return loss


def trl_orpo(repository, batch, options):
  """TRL's odds ratio; the imitation beside it is written out here, as theirs reads queries too."""

  def loss(logprobs):
    names = ["log1mexp", "ORPOTrainer.odds_ratio_loss"]
    compute = taken(repository, "trl/experimental/orpo/orpo_trainer.py", names)[1]
    means = by_preference(batch, logprobs / torch.tensor(batch["lengths"]))
    return -means[0].mean() - compute(trainer(beta=options["beta"]), *means)[0].mean()

  return loss


def spag(repository, batch, options):
  """SPAG's offline loss; its gradient runs through the advantage where there is a KL term."""

  def loss(logprobs):
    lengths = torch.tensor(batch["lengths"])
    means = {"policy": logprobs / lengths, "reference": torch.tensor(batch["reference_logprobs"])}
    means["reference"] = means["reference"] / lengths
    compute = taken(
      repository,
      "trainers.py",
      ["OfflineWeightedPolicyTrainer.compute_loss"],
      compute_lm_loglikeli=lambda logits, labels: means[logits].reshape(-1),
    )[0]

    class Model:
      def __call__(self, **inputs):
        return types.SimpleNamespace(logits="policy")

      def ref_model(self, **inputs):
        return types.SimpleNamespace(logits="reference")

    rewards = torch.tensor(batch["rewards"])
    rewards = (rewards - rewards.mean(1, keepdim=True)).reshape(-1)
    inputs = {
      "input_ids": None,
      "attention_mask": None,
      "labels": None,
      "rewards": rewards,
      "weights": torch.ones(rewards.shape),
      "sft_mask": torch.zeros(rewards.shape),
    }
    arguments = types.SimpleNamespace(
      debug_mode=False,
      clip_range=options["clip"],
      lm_kl_coeff=options["kl_coefficient"],
      lm_sft_coeff=0.5,
    )
    return compute(types.SimpleNamespace(args=arguments), Model(), inputs)

  return loss


def opo(repository, batch, name, **fields):
  """One of OPO's NDCG losses, P not rounded to half precision."""

  def loss(logprobs):
    helpers = ["__apply_mask_and_get_true_sorted_by_preds", "dcg", "sinkhorn_scaling"]
    helpers.append("deterministic_neural_sort")
    constants = {"DEFAULT_EPS": 1e-10, "PADDED_Y_VALUE": -1}
    made = taken(repository, "scripts/loss_utils.py", helpers, **constants)
    stubs = dict(zip(helpers, made, strict=True))
    compute = taken(repository, "scripts/ndcg_trainer.py", [f"NDCGTrainer.{name}"], **stubs)[0]
    scores = torch.tensor(batch["rewards"], dtype=torch.float32)
    reference = torch.tensor(batch["reference_logprobs"], dtype=torch.float32)
    return compute(trainer(**fields), logprobs.float(), reference, scores).mean()

  return loss


def sorting_network(batch, options):
  """NDCG by the odd-even network of the package diffsort, which sorts upwards."""

  def loss(logprobs):
    scores = options["beta"] * (logprobs - torch.tensor(batch["reference_logprobs"]))
    size = scores.shape[1]
    network = diffsort.DiffSortNet(
      "odd_even", size, steepness=options["steepness"], distribution="cauchy"
    )
    ordered, permutation = network(-scores.float())
    gains = 2 ** torch.tensor(batch["rewards"], dtype=torch.float32) - 1
    again = torch.einsum("bij,bi->bj", permutation, -scores.float())
    torch.testing.assert_close(again, ordered)  # columns are ranks
    discounts = 1 / torch.log2(torch.arange(size) + 2.0)
    expected = torch.einsum("bij,bi->bj", permutation, gains) @ discounts
    return -(expected / (gains @ discounts)).mean()

  return loss


def make_cases(trl, spag_repository, opo_repository):
  pairs, lists = pair_batch(), list_batch()
  commits = {
    name: f"{name} {git(repository, 'rev-parse', 'HEAD').strip()}"
    for name, repository in (("TRL", trl), ("SPAG", spag_repository), ("OPO", opo_repository))
  }
  code = commits["TRL"]
  ipo, hinge, simpo = {"beta": 0.3}, {"beta": 0.4}, {"beta": 2.5, "gamma": 1.375}
  sppo, nca, orpo = {"beta": 0.2, "labels": "hard"}, {"beta": 0.4, "alpha": 0.01}, {"beta": 0.7}
  kto = {"beta": 0.4, "desirable_weight": 1.5, "undesirable_weight": 0.8}
  hard = trl_dpo(trl, pairs, "sppo_hard", 0.2)
  found = [
    case(code, "dpo", {"beta": 0.4}, pairs, trl_dpo(trl, pairs, "sigmoid", 0.4)),
    case(code, "ipo", ipo, pairs, trl_dpo(trl, pairs, "ipo", 0.3)),
    case(code, "hinge", hinge, pairs, trl_dpo(trl, pairs, "hinge", 0.4)),
    # Ours is a mean over responses, theirs over pairs.
    case(code, "sppo", sppo, pairs, lambda logprobs: hard(logprobs) / 2),
    case(code, "nca", nca, pairs, trl_dpo(trl, pairs, "nca_pair", 0.4)),
    case(code, "simpo", simpo, pairs, trl_simpo(trl, pairs, simpo)),
    case(code, "orpo", orpo, pairs, trl_orpo(trl, pairs, orpo)),
    case(code, "kto", kto, pairs, trl_kto(trl, pairs, kto)),
  ]
  for coefficient in (0.0, 0.2):
    options = {"clip": 0.1, "kl_coefficient": coefficient}
    loss = spag(spag_repository, lists, options)
    found.append(
      case(commits["SPAG"], "offline_clip", options, lists, loss, has_gradient=not coefficient)
    )
  code = commits["OPO"]
  approx, neural = {"beta": 0.4, "alpha": 3.0}, {"beta": 0.4, "tau": 0.8}
  found.append(
    case(
      code, "ndcg_approx", approx, lists, opo(opo_repository, lists, "approxNDCG_loss", **approx)
    )
  )
  loss = opo(opo_repository, lists, "neuralNDCG_loss", **neural)
  found.append(case(code, "ndcg_neuralsort", neural, lists, loss))
  code = f"diffsort {importlib.metadata.version('diffsort')}"
  options = {"beta": 0.4, "steepness": 10.0}
  found.append(case(code, "ndcg_diffsort", options, lists, sorting_network(lists, options)))
  return found


if __name__ == "__main__":
  parser = argparse.ArgumentParser()
  for name in ("trl", "spag", "opo"):
    parser.add_argument(f"--{name}", required=True)
  given = parser.parse_args()
  lines = ",\n".join(map(json.dumps, make_cases(given.trl, given.spag, given.opo)))
  path = pathlib.Path(__file__).with_name("authors.json")
  path.write_text(f'{{"cases": [\n{lines}\n]}}\n')
