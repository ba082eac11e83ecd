"""Writes published_losses.json: inputs, losses and gradients of SPIN's and Relative PO's own code.

    python tests/golden/make_published_losses.py SPIN RELATIVE_PO

with clones of github.com/uclaml/SPIN and github.com/yinyueqin/relative-preference-optimization.
Their loss functions are taken out of their files at the commits below and run with PyTorch in
float64.
"""

import ast
import json
import pathlib
import subprocess
import sys
import textwrap
import types
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F

SPIN = ("a12ba80", "spin/alignment/trainer.py", "SPINTrainer", "spin_loss")
RELATIVE_PO = ("c1b5163", "trainers.py", "RPOTrainer", "loss")
OUTPUT = pathlib.Path(__file__).with_name("published_losses.json")


def function_of(clone, commit, path, owner, name):
  """A method of a class in a file of a clone, as a function."""
  command = ["git", "-C", clone, "show", f"{commit}:{path}"]
  source = subprocess.run(command, check=True, capture_output=True, text=True).stdout
  (found,) = (one for one in ast.parse(source).body if getattr(one, "name", None) == owner)
  (method,) = (one for one in found.body if getattr(one, "name", None) == name)
  lines = source.splitlines()[method.lineno - 1 : method.end_lineno]
  known = {"torch": torch, "F": F, "List": list, "Optional": Optional, "Tuple": tuple}
  exec(textwrap.dedent("\n".join(lines)), {**known, "print": lambda *_: None}, known)
  return known[name]


def case(rng, loss, options, names, *, queries, embeddings=None):
  """Inputs, the mean of the losses, and its gradient for the first two inputs."""
  arrays = {name: rng.normal(scale=3.0, size=queries) for name in names}
  tensors = {name: torch.tensor(value, requires_grad=True) for name, value in arrays.items()}
  given = list(tensors.values())
  if embeddings is not None:
    given.append(torch.tensor(embeddings))
  mean = loss(*given)[0].mean()
  mean.backward()
  return {
    "options": options,
    "arrays": {name: value.tolist() for name, value in arrays.items()},
    "embeddings": None if embeddings is None else embeddings.tolist(),
    "loss": mean.item(),
    "gradients": {name: tensors[name].grad.tolist() for name in names[:2]},
  }


def spin_cases(rng, function):
  names = ["golden", "sample", "reference_golden", "reference_sample"]
  for kind in ("sigmoid", "hinge"):
    for beta in (0.1, 5.0):
      self = types.SimpleNamespace(loss_type=kind, beta=beta)
      options = {"kind": kind, "beta": beta}
      yield case(rng, types.MethodType(function, self), options, names, queries=6)


def relative_po_cases(rng, function):
  names = ["best", "worst", "reference_best", "reference_worst"]
  for temperature in (0.25, 0.5):
    settings = types.SimpleNamespace(beta=0.1, distance_temperature=temperature)
    self = types.SimpleNamespace(config=types.SimpleNamespace(loss=settings))
    options = {"beta": 0.1, "temperature": temperature}
    embeddings = rng.normal(size=(6, 5))
    bound = types.MethodType(function, self)
    yield case(rng, bound, options, names, queries=6, embeddings=embeddings)


def main():
  rng = np.random.default_rng(0)
  spin, relative_po = (
    function_of(clone, *place)
    for clone, place in zip(sys.argv[1:], (SPIN, RELATIVE_PO), strict=True)
  )
  found = {
    "spin": list(spin_cases(rng, spin)),
    "relative_po": list(relative_po_cases(rng, relative_po)),
  }
  OUTPUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
