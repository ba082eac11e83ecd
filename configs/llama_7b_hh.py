"""The recipe of the paper (arXiv 2311.08045): LLaMA-7B on Helpful & Harmless, rejection sampling.

    python -m apo_jax.main --config=configs/llama_7b_hh.py \
      --config.model.checkpoint=/path/to/alpaca-7b

You provide
- the checkpoint, a directory or a hub name. The paper starts from Alpaca-7B; the default is the
  LLaMA under it, which the supervised start then tunes;
- the data, under data/hh/ (or wherever `--config.data.preferences=...` says): demonstrations,
  preferences, golden and queries, in any format of the README.

Values marked "ours" are where the paper is silent.
"""

import ml_collections

from apo_jax.config.schema import RewardSection


def get_config() -> ml_collections.ConfigDict:
  """Returns the config; apo_jax/config.py says what each field may be."""
  config = ml_collections.ConfigDict()
  config.seed = 0  # ours
  config.rounds = 3  # rounds of the game after the supervised start

  config.model = model = ml_collections.ConfigDict()  # LLaMA-7B, the first
  model.checkpoint = "huggyllama/llama-7b"  # directory or hub name; yours to provide
  model.remat = "full"  # ours: the backward pass computes every layer again
  model.compute_dtype = "bfloat16"  # ours; masters are float32 always
  model.attention = "auto"  # of whole rows: xla, cudnn, splash; auto is by platform

  config.tokenizer = tokenizer = ml_collections.ConfigDict()
  tokenizer.path = ""  # "" is the checkpoint's
  tokenizer.vocab_size = 32000  # of random weights, unused with a checkpoint

  config.data = data = ml_collections.ConfigDict()
  data.source = "files"  # embedded, files
  data.num_demonstrations = 0  # at most so many, per split where a split has them; 0 is all
  data.num_preferences = 0
  data.num_golden = 0
  data.num_queries = 0
  data.num_test = 0
  data.demonstrations = "data/hh/demonstrations.jsonl"  # for the supervised start
  data.preferences = "data/hh/preferences.jsonl"  # human preferences
  data.golden = "data/hh/golden.jsonl"  # golden responses (the paper's are GPT-4's)
  data.queries = "data/hh/queries.jsonl"  # queries without a response
  data.on_bad_row = "skip"  # a row that cannot be used is counted; "error" ends the run
  data.chat_template = "hh"  # dialogues stay as HH writes them
  # The paper's limit is 512 tokens in all.
  data.query_length = 255  # tokens with bos and separator; longer queries lose their left
  data.query_buckets = (64, 128, 255)  # ours: padded lengths the sampler compiles for, tokens
  data.response_length = 257  # tokens with eos; longer responses lose their right
  data.row_buckets = (128, 256)  # ours: padded lengths of training rows below the longest, tokens
  data.separator = "<0x01>"  # LLaMA's token of id 4, between query and response

  config.supervised = _training()  # in place of the paper's start, a given Alpaca

  config.reward = reward = RewardSection()
  reward.checkpoint = ""  # the policy's trunk with a new head
  reward.lora = _no_lora()
  reward.update = "adversarial"  # adversarial, preferences_only, fixed
  reward.start = "base"  # each round anew; "previous" is the paper's -seq variant
  reward.pooling = "last"  # the head reads the token before eos
  reward.kind = "ranking"  # APO term: log-sigmoid of the margin
  reward.reduction = "reference"  # both terms over the number of all pairs, as the paper's code
  reward.apo_coefficient = 0.1  # c_apo, weight of golden over samples
  reward.preference_coefficient = 1.0  # c_kl, weight of the human preferences
  reward.preference_batch_size = 64  # ours: preferences an update, beside the golden queries
  reward.base = _training()  # and the testing reward model
  reward.training = _training()  # a round; the paper's code also shows 1e-7 as learning rate

  config.policy = policy = ml_collections.ConfigDict()
  policy.lora = _no_lora()
  policy.method = "rjs"  # the paper also plays rrhf and dpo
  policy.start = "base"  # each round anew; "previous" goes on from the last round
  policy.reference = "initial"  # of the KL: the policy the game began with, as start is "base"
  policy.beta = 0.1  # ours, DPO: strength of the pull to the reference
  policy.pairs = "best_worst"  # DPO: best_worst, best_rest, all
  policy.sft_coefficient = 1.0  # RRHF: lambda, weight of the best response's likelihood
  policy.training = _training()  # a round

  config.sampling = sampling = ml_collections.ConfigDict()
  sampling.training = training = ml_collections.ConfigDict()
  training.num_samples = 4  # S, responses a query
  training.temperature = 1.2
  training.top_k = 0  # 0 is off
  training.top_p = 1.0  # 1 is off
  training.repetition_penalty = 1.0  # 1 is off
  training.max_new_tokens = 256  # tokens
  training.stop = ("\nHuman",)  # a response ends before these
  sampling.evaluation = testing = ml_collections.ConfigDict()
  testing.num_samples = 1  # responses a query
  testing.temperature = 0.3
  testing.top_k = 5
  testing.top_p = 0.85
  testing.repetition_penalty = 1.05
  testing.max_new_tokens = 512  # tokens
  testing.stop = ("\nHuman",)  # a response ends before these
  sampling.batch_size = 64  # ours: queries a sampler call
  sampling.cache_dtype = "bfloat16"  # of cached keys and values
  sampling.gather_weights = True  # whole weights on every device while it samples

  config.evaluation = evaluation = ml_collections.ConfigDict()
  evaluation.num_queries = 2048  # ours: test queries, and test preferences, a round
  evaluation.batch_size = 64  # ours: sequences a scoring call
  evaluation.calibration_bins = 10  # uniform bins of confidence

  config.mesh = mesh = ml_collections.ConfigDict()  # ours
  mesh.data = 1  # devices that split the batch only; docs/scaling.md says what more may save
  mesh.fsdp = -1  # devices that split the batch and the weights; -1 takes all that are left
  mesh.tensor = 1  # devices that split heads, MLP and vocabulary

  config.memory = memory = ml_collections.ConfigDict()  # ours
  memory.park_idle_player = False  # the player whose turn it is not waits in the host's memory

  config.checkpoints = checkpoints = ml_collections.ConfigDict()  # ours
  checkpoints.every_steps = 200  # updates
  checkpoints.keep = 2  # newest checkpoints that stay

  config.logging = logging = ml_collections.ConfigDict()
  logging.every_steps = 10  # updates
  logging.tensorboard = False
  logging.wandb = False
  logging.wandb_project = "apo_jax"
  return config


def _no_lora() -> ml_collections.ConfigDict:
  lora = ml_collections.ConfigDict()
  lora.rank = 0  # every weight is trained
  lora.alpha = 16.0  # adapters would be scaled by alpha / rank
  lora.dropout = 0.0
  lora.modules = ("query", "value")
  return lora


def _training() -> ml_collections.ConfigDict:
  """The paper trains every model alike."""
  training = ml_collections.ConfigDict()
  training.epochs = 1  # passes over the data
  training.batch_size = 64  # items an update
  training.accumulation = 1  # micro-batches an update; more where memory is short
  training.learning_rate = 1e-6  # at its peak
  training.schedule = "cosine"  # ours, the nearest to the linear decay of the paper's code
  training.warmup_steps = 100  # updates
  training.weight_decay = 0.0
  training.clip_norm = 1.0  # ours: largest global norm of the gradient
  training.beta1 = 0.9  # ours: Adam's decay of the mean
  training.beta2 = 0.999  # ours: Adam's decay of the square
  return training
