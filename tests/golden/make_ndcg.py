"""Writes ndcg.json: inputs of evaluation/ndcg.py and what scikit-learn makes of each query.

pip install scikit-learn
python tests/golden/make_ndcg.py
"""

import json
import pathlib

import numpy as np
import sklearn
from sklearn.metrics import ndcg_score

OUTPUT = pathlib.Path(__file__).with_name("ndcg.json")


def gain(rewards):
  spread = rewards.max() - rewards.min()
  return 2 ** ((rewards - rewards.min()) / spread) - 1


def main():
  """Writes the file."""
  rng = np.random.default_rng(0)
  values, rewards = rng.normal(size=(2, 12, 6))
  values[:4] = np.round(values[:4])  # with ties
  counts = [6] * 8 + [2, 3, 4, 5]
  expected = [
    ndcg_score([gain(reward[:count])], [value[:count]])
    for value, reward, count in zip(values, rewards, counts, strict=True)
  ]
  found = {
    "made_by": f"scikit-learn {sklearn.__version__}, ndcg_score of gains",
    "values": values.tolist(),
    "rewards": rewards.tolist(),
    "counts": counts,
    "ndcg": expected,
  }
  OUTPUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
  main()
