"""Adversarial preference optimization in JAX: the pieces of a game, by name.

examples/game.py plays a round with them alone; `python -m apo_jax.main` plays whole games. Each is
imported when it is first used.
"""

import os

from etils import epy

# transformers says at import that it has no PyTorch; none is needed.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

with epy.lazy_api_imports(globals()):
  from apo_jax.config.schema import (
    Config,
    DataConfig,
    LoraConfig,
    MeshConfig,
    ModelConfig,
    SamplerConfig,
    ShapeConfig,
    TrainingConfig,
  )
  from apo_jax.data.tokenised import Tokenised, tokenise
  from apo_jax.data.tokens import Codec, make_codec, train_tokenizer
  from apo_jax.data.toy.dialogues import generate as toy_world
  from apo_jax.devices.sharding import make_mesh
  from apo_jax.inference.sampler import Sampler
  from apo_jax.inference.scoring import make_logprob_scorer, make_reward_scorer
  from apo_jax.models.architecture import architecture_from_shape
  from apo_jax.models.definition import define_policy, define_reward_model, trunk_of
  from apo_jax.objectives import (
    APO,
    DPO,
    GRM,
    RRHF,
    MaximumLikelihood,
    MinNorm,
    PolicyLoss,
    RejectionSampling,
    RewardTerm,
    Shaping,
    Weighting,
  )
  from apo_jax.policy_step import PolicyBatch, make_policy_update
  from apo_jax.reward_step import RewardBatch, make_reward_update
  from apo_jax.rows.rows import Item, Response, Rows, make_shared_rows
  from apo_jax.run.seeds import derive_key
  from apo_jax.training.optimization import init_state, make_optimizer
