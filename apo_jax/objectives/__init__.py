"""Losses and metrics of the game as pure functions of arrays: no model, no I/O, no state.

Everything computes in float32, can be jitted and differentiated, and ignores masked positions
in value and gradient. A loss is a frozen dataclass: its fields are its hyper-parameters; called
with a batch it returns `Sums`, which whoever calls it divides.
"""

from apo_jax.objectives.accuracy import preference_accuracy
from apo_jax.objectives.advpo import AdvPO
from apo_jax.objectives.apo import APO, ScoredRewards
from apo_jax.objectives.calibration import calibration_errors
from apo_jax.objectives.contrastive import Contrastive
from apo_jax.objectives.dno import DNO
from apo_jax.objectives.dno_prct import DNOPrct
from apo_jax.objectives.dpo import DPO
from apo_jax.objectives.grm import GRM
from apo_jax.objectives.hinge import Hinge
from apo_jax.objectives.infonca import InfoNCA
from apo_jax.objectives.ipo import IPO
from apo_jax.objectives.kto import KTO
from apo_jax.objectives.length_penalty import LengthPenalty
from apo_jax.objectives.likelihood import MaximumLikelihood
from apo_jax.objectives.min_norm import MinNorm, head_gradients
from apo_jax.objectives.missing_end import MissingEnd
from apo_jax.objectives.nca import NCA
from apo_jax.objectives.ndcg_approx import ApproxNDCG
from apo_jax.objectives.ndcg_diffsort import DiffsortNDCG
from apo_jax.objectives.ndcg_neuralsort import NeuralNDCG
from apo_jax.objectives.offline_clip import OfflineClip
from apo_jax.objectives.orpo import ORPO
from apo_jax.objectives.par import PreferenceAsReward
from apo_jax.objectives.policy_loss import PolicyLoss, ScoredResponses
from apo_jax.objectives.ranking import ranking_loss
from apo_jax.objectives.relative_po import RelativePO
from apo_jax.objectives.reward_term import RewardTerm
from apo_jax.objectives.rjs import RejectionSampling
from apo_jax.objectives.rrhf import RRHF
from apo_jax.objectives.rso import RejectionSelection
from apo_jax.objectives.sample_selection import Selection
from apo_jax.objectives.selection import (
  best_response,
  not_unfinished,
  pairs_from_scores,
  worst_response,
)
from apo_jax.objectives.sequential_po import SequentialPO
from apo_jax.objectives.shaping import SampledRewards, Shaping
from apo_jax.objectives.simpo import SimPO
from apo_jax.objectives.spin import SPIN
from apo_jax.objectives.sppo import SPPO
from apo_jax.objectives.sums import Sums, mean
from apo_jax.objectives.swepo import SWEPO
from apo_jax.objectives.uncertainty_penalty import UncertaintyPenalty
from apo_jax.objectives.weighting import FixedWeights, Weighting
