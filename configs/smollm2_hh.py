"""SmolLM2-135M-Instruct with adapters on real Helpful & Harmless data: two short rounds.

    python -m apo_jax.main --config=configs/smollm2_hh.py

On a machine without an accelerator it plays a small part of the data, which proves the machinery on
real text and no more (docs/smollm2_hh.md has the record); with a TPU or GPU it plays all of them.
The policies are judged on the test side's golden queries alone, a tenth of all.

You provide, under data/hh/ (or wherever `--config.data.preferences=...` says)
- preferences.jsonl.gz: HH-RLHF's two columns, `chosen` and `rejected`;
- golden.jsonl.gz: queries with a golden response, `query_id`, `query`, `golden`;
- queries.jsonl.gz: queries to answer, `query_id`, `query`.
"""

import os
from pathlib import Path

import ml_collections

from apo_jax.config.schema import RewardSection


def get_config() -> ml_collections.ConfigDict:
  """Returns the config; apo_jax/config.py says what each field may be."""
  full = _has_accelerator()
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.rounds = 2  # rounds of the game after the supervised start

  config.model = model = ml_collections.ConfigDict()
  model.checkpoint = "HuggingFaceTB/SmolLM2-135M-Instruct"  # directory or hub name
  model.remat = "full" if full else "dots"  # what backward computes again: none, dots, full
  model.compute_dtype = "bfloat16" if full else "float32"  # masters are float32 always
  model.attention = "auto"  # of whole rows: xla, cudnn, splash; auto is by platform

  config.tokenizer = tokenizer = ml_collections.ConfigDict()
  tokenizer.path = ""  # "" is the checkpoint's
  tokenizer.vocab_size = 49152  # of random weights, unused with a checkpoint

  config.data = data = ml_collections.ConfigDict()
  data.source = "files"  # embedded, files
  data.num_demonstrations = 0  # at most so many, per split where a split has them; 0 is all
  data.num_preferences = 0 if full else 96
  data.num_golden = 0 if full else 96
  data.num_queries = 0 if full else 96
  data.num_test = 0 if full else 96
  data.demonstrations = ""  # the checkpoint follows instructions already
  data.preferences = "data/hh/preferences.jsonl.gz"
  data.golden = "data/hh/golden.jsonl.gz"
  data.queries = "data/hh/queries.jsonl.gz"
  data.on_bad_row = "skip"  # a row that cannot be used is counted; "error" ends the run
  data.chat_template = ""  # "" is the checkpoint's
  data.query_length = 256 if full else 128  # tokens with the template's; longer lose their left
  data.query_buckets = (64, 128, 256) if full else (64, 128)  # tokens; the sampler's lengths
  data.response_length = 256 if full else 65  # tokens with eos; longer responses lose their right
  data.row_buckets = (128, 256) if full else (112, 144)  # tokens; shorter training rows
  data.separator = ""  # the template says where the answer begins

  config.supervised = _training(epochs=0, batch_size=32, learning_rate=1e-5, warmup_steps=0)

  # The few updates of a short run are small batches and large steps.
  batch_size = 32 if full else 4  # items an update
  config.reward = reward = RewardSection()
  reward.checkpoint = ""  # "" is the model's checkpoint with a new head
  reward.lora = _lora(dropout=0.05 if full else 0.0)  # random numbers take long on a CPU
  reward.update = "adversarial"  # adversarial, preferences_only, fixed
  reward.start = "previous"  # a round starts from the last round's model, or from the base
  reward.pooling = "eos"  # what the head reads: last, eos, average, max
  reward.kind = "ranking"  # APO term: ranking (log-sigmoid) or difference (raw margin)
  reward.reduction = "mean"  # mean a term, or the reference code's shared denominator
  reward.apo_coefficient = 4.0  # c_apo, weight of golden over samples; divided by the 4 samples
  reward.preference_coefficient = 1.0  # c_kl, weight of the human preferences
  reward.preference_batch_size = batch_size  # preferences an update, beside golden queries
  # The base, and the testing reward model; then a round.
  rate = 2e-4 if full else 5e-4
  reward.base = _training(epochs=1, batch_size=batch_size, learning_rate=rate, warmup_steps=2)
  rate = 1e-4 if full else 3e-4
  reward.training = _training(epochs=1, batch_size=batch_size, learning_rate=rate, warmup_steps=1)

  config.policy = policy = ml_collections.ConfigDict()
  policy.lora = _lora(dropout=0.0)
  policy.method = "dpo"  # rjs, rrhf, dpo
  policy.start = "previous"  # a round starts from the last round's policy, or from the base
  policy.reference = "round_start"  # of the KL: the round's start, or the initial policy
  policy.beta = 0.1  # DPO: strength of the pull to the reference
  policy.pairs = "best_worst"  # DPO: best_worst, best_rest, all
  policy.sft_coefficient = 1.0  # RRHF: lambda, weight of the best response's likelihood
  rate = 2e-4 if full else 3e-4
  policy.training = _training(epochs=1, batch_size=batch_size, learning_rate=rate, warmup_steps=1)

  config.sampling = sampling = ml_collections.ConfigDict()
  tokens = 255 if full else 64
  sampling.training = _sampler(num_samples=4, temperature=1.0, max_new_tokens=tokens)
  sampling.evaluation = _sampler(num_samples=1, temperature=0.7, max_new_tokens=tokens)
  sampling.batch_size = 64 if full else 24  # queries a sampler call
  sampling.cache_dtype = model.compute_dtype  # of cached keys and values
  sampling.gather_weights = True  # whole weights on every device while it samples

  config.evaluation = evaluation = ml_collections.ConfigDict()
  evaluation.num_queries = 1024 if full else 96  # test queries, and test preferences, a round
  evaluation.batch_size = 64 if full else 32  # sequences a scoring call
  evaluation.calibration_bins = 10  # uniform bins of confidence

  config.mesh = mesh = ml_collections.ConfigDict()
  mesh.data = -1  # devices that split the batch; -1 takes all that are left
  mesh.fsdp = 1  # devices that split the batch and the weights
  mesh.tensor = 1  # devices that split heads, MLP and vocabulary

  config.memory = memory = ml_collections.ConfigDict()
  memory.park_idle_player = False  # the player whose turn it is not waits in the host's memory

  config.checkpoints = checkpoints = ml_collections.ConfigDict()
  checkpoints.every_steps = 100  # updates
  checkpoints.keep = 2  # newest checkpoints that stay

  config.logging = logging = ml_collections.ConfigDict()
  logging.every_steps = 10 if full else 1  # updates
  logging.tensorboard = False
  logging.wandb = False
  logging.wandb_project = "apo_jax"
  return config


def _has_accelerator() -> bool:
  """Whether there is a TPU or GPU. Asking JAX would start it, before its processes have joined."""
  if os.environ.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
    return False
  devices = Path("/dev")
  return any(any(devices.glob(name)) for name in ("accel*", "vfio/[0-9]*", "nvidia[0-9]*"))


def _training(
  epochs: int, batch_size: int, learning_rate: float, warmup_steps: int
) -> ml_collections.ConfigDict:
  training = ml_collections.ConfigDict()
  training.epochs = epochs  # passes over the data
  training.batch_size = batch_size  # items an update
  training.accumulation = 1  # micro-batches an update
  training.learning_rate = learning_rate  # at its peak
  training.schedule = "cosine"  # after the warm-up: constant, cosine
  training.warmup_steps = warmup_steps  # updates
  training.weight_decay = 0.0
  training.clip_norm = 1.0  # largest global norm of the gradient
  training.beta1 = 0.9  # Adam's decay of the mean
  training.beta2 = 0.95  # Adam's decay of the square
  return training


def _lora(dropout: float) -> ml_collections.ConfigDict:
  lora = ml_collections.ConfigDict()
  lora.rank = 16
  lora.alpha = 32.0  # adapters are scaled by alpha / rank
  lora.dropout = dropout  # of the adapters' input
  lora.modules = ("query", "key", "value", "output", "gate", "up", "down")
  return lora


def _sampler(
  num_samples: int, temperature: float, max_new_tokens: int
) -> ml_collections.ConfigDict:
  sampler = ml_collections.ConfigDict()
  sampler.num_samples = num_samples  # responses a query
  sampler.temperature = temperature  # 0 is greedy
  sampler.top_k = 0  # 0 is off
  sampler.top_p = 1.0  # 1 is off
  sampler.repetition_penalty = 1.0  # 1 is off
  sampler.max_new_tokens = max_new_tokens  # tokens
  sampler.stop = ()  # the template's end of turn ends a response
  return sampler
