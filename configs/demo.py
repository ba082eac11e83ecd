"""The whole game in small, on data that comes with the package: no download, a CPU is enough.

    python -m apo_jax.main --config=configs/demo.py

Any field can be overridden on the command line, and so swept over:

    for method in rjs rrhf dpo; do
      python -m apo_jax.main --config=configs/demo.py --config.policy.method=$method
    done
"""

import ml_collections

from apo_jax.config.schema import RewardSection


def get_config() -> ml_collections.ConfigDict:
  """Returns the config; apo_jax/config.py says what each field may be."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.rounds = 3  # rounds of the game after the supervised start

  config.model = model = ml_collections.ConfigDict()
  model.checkpoint = ""  # directory or hub name of a Hugging Face model; "" is random weights
  model.shape = shape = ml_collections.ConfigDict()  # of random weights
  shape.layers = 2
  shape.embed_dim = 96  # features
  shape.heads = 4  # query heads
  shape.kv_heads = 2  # key and value heads, shared by groups of query heads
  shape.head_dim = 24  # features a head
  shape.mlp_dim = 256  # features
  shape.rope_theta = 10000.0  # base of the rotary wavelengths
  shape.norm_epsilon = 1e-5
  shape.tied_embeddings = True  # one matrix reads and writes tokens
  model.remat = (
    "full"  # what the backward pass computes again: none, dots, full (quickest on a CPU)
  )
  model.compute_dtype = "float32"  # masters are float32 always
  model.attention = "auto"  # of whole rows: xla, cudnn, splash; auto is by platform

  config.tokenizer = tokenizer = ml_collections.ConfigDict()
  tokenizer.path = ""  # "" is the checkpoint's, or else a byte-level BPE trained on the run's data
  tokenizer.vocab_size = 512  # entries, special tokens included

  config.data = data = ml_collections.ConfigDict()
  data.source = "embedded"  # embedded, files
  data.num_demonstrations = 8000  # query-response pairs of the supervised start
  data.num_preferences = 1500  # preferences a split
  data.num_golden = 512  # golden responses of the reward split
  data.num_queries = 1024  # queries of the policy split
  data.num_test = 256  # queries of the test split
  data.demonstrations = ""  # paths or URIs, for source "files" only
  data.preferences = ""
  data.golden = ""
  data.queries = ""
  data.on_bad_row = "error"  # a row that cannot be used: skip, error
  data.chat_template = ""  # "" is the tokenizer's, or else hh; hh; a Jinja file, or its text
  data.query_length = 30  # tokens with bos; longer queries lose their left
  data.query_buckets = (30,)  # tokens; padded lengths the sampler compiles for
  data.response_length = 24  # tokens with eos; longer responses lose their right
  data.row_buckets = ()  # tokens; padded lengths of training rows below the longest
  data.separator = ""  # token between query and response; "" for none

  config.supervised = _training(epochs=2, batch_size=64, learning_rate=4e-3, warmup_steps=20)

  config.reward = reward = RewardSection()
  reward.checkpoint = ""  # a sequence-classification model to start from; "" is the policy's trunk
  reward.lora = _no_lora()
  reward.update = "adversarial"  # adversarial, preferences_only, fixed
  reward.start = "previous"  # a round starts from the last round's model, or from the base
  reward.pooling = "last"  # what the head reads: last, eos, average, max
  reward.kind = "ranking"  # APO term: ranking (log-sigmoid) or difference (raw margin)
  reward.reduction = "mean"  # mean a term, or the reference code's shared denominator
  reward.apo_coefficient = 4.0  # c_apo, weight of golden over samples; divided by the 4 samples
  reward.preference_coefficient = 1.0  # c_kl, weight of the human preferences
  reward.preference_batch_size = 32  # preferences an update, beside the golden queries
  # The base, and the testing reward model; then a round.
  reward.base = _training(epochs=2, batch_size=64, learning_rate=1e-3, warmup_steps=10)
  reward.training = _training(epochs=1, batch_size=32, learning_rate=1e-3, warmup_steps=4)

  config.policy = policy = ml_collections.ConfigDict()
  policy.lora = _no_lora()
  policy.method = "dpo"  # rjs, rrhf, dpo
  policy.start = "previous"  # a round starts from the last round's policy, or from the base
  policy.reference = "round_start"  # of the KL: the round's start, or the initial policy
  policy.beta = 0.1  # DPO: strength of the pull to the reference
  policy.pairs = "best_worst"  # DPO: best_worst, best_rest, all
  policy.sft_coefficient = 1.0  # RRHF: lambda, weight of the best response's likelihood
  # A round.
  policy.training = _training(epochs=1, batch_size=32, learning_rate=3e-4, warmup_steps=4)

  config.sampling = sampling = ml_collections.ConfigDict()
  sampling.training = _sampler(num_samples=4)
  sampling.evaluation = _sampler(num_samples=1)
  sampling.batch_size = 64  # queries a sampler call
  sampling.cache_dtype = "float32"  # of cached keys and values
  sampling.gather_weights = False  # whole weights on every device while it samples

  config.evaluation = evaluation = ml_collections.ConfigDict()
  evaluation.num_queries = 256  # test queries, and test preferences, a round
  evaluation.batch_size = 128  # sequences a scoring call
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
  logging.every_steps = 10  # updates
  logging.tensorboard = False
  logging.wandb = False
  logging.wandb_project = "apo_jax"
  return config


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


def _no_lora() -> ml_collections.ConfigDict:
  lora = ml_collections.ConfigDict()
  lora.rank = 0  # 0 trains every weight; adapters need a checkpoint
  lora.alpha = 16.0  # adapters are scaled by alpha / rank
  lora.dropout = 0.0  # of the adapters' input
  lora.modules = ("query", "key", "value", "output", "gate", "up", "down")
  return lora


def _sampler(num_samples: int) -> ml_collections.ConfigDict:
  sampler = ml_collections.ConfigDict()
  sampler.num_samples = num_samples  # responses a query
  sampler.temperature = 1.0  # 0 is greedy
  sampler.top_k = 0  # 0 is off
  sampler.top_p = 1.0  # 1 is off
  sampler.repetition_penalty = 1.0  # 1 is off
  sampler.max_new_tokens = 23  # tokens
  sampler.stop = ("\n\nHuman",)  # a response ends before these
  return sampler
