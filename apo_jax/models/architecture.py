"""What makes one decoder of the Llama family differ from another, as data.

The decoder reads these switches and nothing else: a checkpoint's family (`hugging_face`) and the
config's shape are two ways to fill them in.
"""

import dataclasses
from typing import Literal

from apo_jax.config.schema import ModelConfig
from apo_jax.devices.platforms import FUSED_ATTENTION, LOGITS_AT_ONCE


@dataclasses.dataclass(frozen=True)
class Rope:
  """Rotary positions: the base of the wavelengths, and how long contexts stretch them.

  `linear` divides every frequency by `factor` (arXiv 2306.15595). `llama3` divides those whose
  wavelength is above `original_length / low_frequency_factor`, keeps those below
  `original_length / high_frequency_factor`, and goes smoothly from one to the other between them
  (Llama 3.1, arXiv 2407.21783). `yarn` has the same two limits, and goes from one to the other
  linearly in the number of the pair of features (arXiv 2309.00071). `longrope` divides each
  frequency by a factor of its own (arXiv 2402.13753).

  Attributes:
    theta: the base of the wavelengths.
    scaling, factor, low_frequency_factor, high_frequency_factor, original_length: see above.
    whole_pairs: `yarn`'s two limits lie at whole pairs, the nearest that are not inside.
    factors: of `longrope`, one a pair.
    amplitude: what rotated queries and keys are multiplied by (`yarn`, `longrope`).
  """

  theta: float
  scaling: Literal["none", "linear", "llama3", "yarn", "longrope"] = "none"
  factor: float = 1.0
  low_frequency_factor: float = 1.0
  high_frequency_factor: float = 4.0
  original_length: int = 8192
  whole_pairs: bool = True
  factors: tuple[float, ...] = ()
  amplitude: float = 1.0


@dataclasses.dataclass(frozen=True)
class LayerKind:
  """What may differ between the layers of one decoder.

  Attributes:
    rope: its rotary positions; None for a layer without positions (arXiv 2501.18795).
    window: how many positions back it sees, its own included; 0 is all of them.
  """

  rope: Rope | None
  window: int = 0


@dataclasses.dataclass(frozen=True)
class Architecture:
  """A decoder's shape and switches; hashable, static in every jitted function.

  Attributes:
    vocab_size: tokens with a logit. The tables have `vocab_rows` rows.
    embed_dim, heads, kv_heads, head_dim, mlp_dim: features and heads, as in `config.ShapeConfig`.
    kinds: one a layer, first to last.
    norm_epsilon: of every RMSNorm.
    tied_embeddings: the output projection is the embedding's transpose.
    activation: of the gated unit.
    attention_bias: queries, keys and values have one.
    query_key_norms: queries and keys are normalised before rotation, each "head" by itself (Qwen 3)
      or all "heads" together (OLMo 2).
    rotary_dim: so many of a head's features turn with the position, its first; 0 is all of them.
    unit_offset_norms: a norm scales by 1 + its parameter (Gemma).
    pre_norms: attention and MLP read the residual normalised. All but OLMo 2 have them.
    post_norms: what attention and MLP add is normalised before it joins the residual (Gemma,
      OLMo 2).
    embedding_scale: what embeddings are multiplied by (Gemma, Granite).
    residual_scale: what attention and MLP add is multiplied by it (Granite).
    logits_scale: what logits are multiplied by (Granite).
    query_scale: of attention's logits.
    attention_softcap, logits_softcap: cap * tanh(x / cap); 0 is off (Gemma 2).
    remat, compute_dtype, master_dtype, frozen_dtype: as in `config.ModelConfig`.
    attention: the same; "auto" is "xla" until `definition` has chosen by the mesh.
    logits_at_once: most logits that a device holds at a time while log-probabilities are computed,
      so that memory does not grow with the vocabulary. `definition` chooses it by the mesh.
  """

  vocab_size: int
  embed_dim: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp_dim: int
  kinds: tuple[LayerKind, ...]
  norm_epsilon: float
  tied_embeddings: bool
  query_scale: float
  remat: Literal["none", "dots", "full"]
  compute_dtype: Literal["float32", "bfloat16"]
  attention: Literal["auto", "xla", "cudnn", "splash"]
  master_dtype: Literal["float32", "bfloat16"] = "float32"
  frozen_dtype: Literal["float32", "bfloat16", "int8", "nf4"] = "float32"
  logits_at_once: int = 2**25
  activation: Literal["silu", "gelu_tanh"] = "silu"
  attention_bias: bool = False
  query_key_norms: Literal["none", "head", "heads"] = "none"
  rotary_dim: int = 0
  unit_offset_norms: bool = False
  pre_norms: bool = True
  post_norms: bool = False
  embedding_scale: float = 1.0
  residual_scale: float = 1.0
  logits_scale: float = 1.0
  attention_softcap: float = 0.0
  logits_softcap: float = 0.0

  @property
  def layers(self) -> int:
    """How many layers there are."""
    return len(self.kinds)

  @property
  def longest_row(self) -> int | None:
    """The longest row that `longrope`'s factors are for; None where there is no such limit."""
    ropes = (kind.rope for kind in self.kinds)
    return min((r.original_length for r in ropes if r and r.scaling == "longrope"), default=None)

  @property
  def vocab_rows(self) -> int:
    """Rows of the embedding: the next multiple of 128, a tile of the matrix units.

    Rows from `vocab_size` on belong to no token: never read, and their logits are -inf.
    """
    return -(-self.vocab_size // 128) * 128

  def split_sizes(self) -> dict[str, int]:
    """The sizes of the axes that a mesh may split."""
    names = ("embed_dim", "heads", "kv_heads", "mlp_dim", "vocab_rows")
    return {name: getattr(self, name) for name in names}


def on_platform(architecture: Architecture, platform: str) -> Architecture:
  """The architecture on "tpu", "gpu" or "cpu": its attention where it is "auto", its chunks."""
  attention, at_once = architecture.attention, architecture.logits_at_once
  if attention == "auto":
    attention = FUSED_ATTENTION.get(platform, "xla")
  at_once = LOGITS_AT_ONCE.get(platform, at_once)
  return dataclasses.replace(architecture, attention=attention, logits_at_once=at_once)


def architecture_from_shape(model: ModelConfig, vocab_size: int) -> Architecture:
  """The architecture of `model.shape`."""
  shape = model.shape
  return Architecture(
    vocab_size=vocab_size,
    embed_dim=shape.embed_dim,
    heads=shape.heads,
    kv_heads=shape.kv_heads,
    head_dim=shape.head_dim,
    mlp_dim=shape.mlp_dim,
    kinds=(LayerKind(Rope(shape.rope_theta)),) * shape.layers,
    norm_epsilon=shape.norm_epsilon,
    tied_embeddings=shape.tied_embeddings,
    query_scale=shape.head_dim**-0.5,
    remat=model.remat,
    compute_dtype=model.compute_dtype,
    attention=model.attention,
    master_dtype=model.master_dtype,
    frozen_dtype=model.frozen_dtype,
  )
