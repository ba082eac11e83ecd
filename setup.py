"""What apo_jax is called and what it needs."""

from setuptools import find_packages, setup

# Lower bounds are versions that are known to work, upper bounds the next that may break.
RUNTIME = [
  "absl-py>=2.5,<3",
  "datasets>=5.2,<6",
  "etils>=1.15,<2",
  "flax>=0.12.8,<0.13",
  "fsspec>=2026.9,<2027",
  "grain>=0.2.18,<0.3",
  "huggingface_hub>=2.4,<3",
  "jax>=0.10.2,<0.13",
  "jinja2>=3.1,<4",
  "jaxtyping>=0.3.11,<0.4",
  "matplotlib>=3.11,<4",
  "ml_collections>=1.1,<2",
  "numpy>=2.4,<3",
  "optax>=0.2.8,<0.3",
  "orbax-checkpoint>=0.12.8,<0.13",
  "pyarrow>=26,<27",
  "qwix>=0.1.8,<0.2",
  "regex>=2026.9,<2028",
  "rich>=15,<16",
  "safetensors>=0.8,<0.9",
  "scipy>=1.17,<2",
  "sentencepiece>=0.2.3,<0.3",
  "tensorflow-datasets>=4.9.10,<5",
  "tokenizers>=0.23,<0.24",
  "transformers>=5.23,<6",
]

TENSORBOARD = ["tensorboardX>=2.6.5,<3"]

# gs:// for run directories and data; google-cloud-storage is for the lock's conditional writes.
GCS = ["gcsfs>=2026.9,<2027", "google-cloud-storage>=3.14.1,<4"]

JUDGE = ["openai>=3.57,<4"]

EXTRAS = {
  "test": [
    "beartype>=0.23,<0.24",
    "filelock>=4.3,<5",
    "hypothesis>=6.170,<7",
    "pytest>=9.2,<10",
    "pytest-xdist>=3.8,<4",
    "ruff>=0.17,<0.18",
    "gcp-storage-emulator>=2026.7,<2027",
    *TENSORBOARD,
    *JUDGE,
    *GCS,
  ],
  "tpu": ["jax[tpu]>=0.10.2,<0.13"],
  # CUDA 13 needs an NVIDIA driver of at least 580; under an older one install jax[cuda12] instead.
  "cuda": ["jax[cuda13]>=0.10.2,<0.13"],
  "tensorboard": TENSORBOARD,
  "judge": JUDGE,
  "gcs": GCS,
  "wandb": ["wandb>=0.31,<1"],
}

setup(
  name="apo_jax",
  version="0.1.0",
  description="Adversarial preference optimization of language models in JAX.",
  license="Apache-2.0",
  license_files=["LICENSE"],
  python_requires=">=3.11",
  packages=find_packages(include=["apo_jax", "apo_jax.*"]),
  package_data={"apo_jax": ["py.typed"], "apo_jax.evaluate.judge": ["prompt.txt"]},
  install_requires=RUNTIME,
  extras_require=EXTRAS,
)
