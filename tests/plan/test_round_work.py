from apo_jax.plan.round_work import ASSUMED_SIZE, round_work
from tests import tiny

SIZES = {
  "sampling__training__num_samples": 3,
  "sampling__evaluation__num_samples": 2,
  "reward__training__epochs": 2,
  "data__num_golden": 40,
  "data__num_queries": 20,
  "data__num_test": 50,
}


def test_calls_by_hand():
  work = round_work(tiny.config(**SIZES))
  assert work.sampled_queries == 40 + 20
  assert work.reward_updates == 10  # 40 golden, twice, 8 an update
  assert work.reward_scores == 7 + 1  # 20 * 3 samples and 40 * 4, 32 a call; 16 preferences
  assert work.judge_scores == 1  # 16 preferences
  assert work.logprob_scores == 2  # 20 * 2, the best and the worst
  assert work.policy_updates == 3  # 20, 8 an update
  assert work.evaluated_queries == 16  # config.evaluation.num_queries
  assert work.kl_queries == 0  # the evaluation's own samples
  # 16 * 2 samples and 16 golden, by two models.
  assert work.evaluation_reward_scores == work.evaluation_judge_scores == 2
  assert work.evaluation_logprob_scores == 2  # 16 * 2, by two policies
  assert work.assumptions == ()


def test_a_fixed_reward_model_has_no_step_and_no_golden_samples():
  work = round_work(tiny.config(**SIZES, reward__mode="fixed"))
  assert work.sampled_queries == 20
  assert work.reward_updates == 0
  assert work.reward_scores == 2 + 1


def test_unknown_sizes_are_assumed_and_said():
  config = tiny.config(
    data__source="files",
    data__demonstrations="x://d",
    data__preferences="x://p",
    data__golden="chosen",
    data__queries="preferences",
    data__num_queries=0,
  )
  work = round_work(config)
  assert work.policy_updates == ASSUMED_SIZE / 8
  assert work.assumptions == ("config.data.num_queries is 0, all there are: 10,000 assumed.",)


def test_only_what_the_loss_reads_has_a_reference():
  best = round_work(tiny.config(**SIZES, policy__loss="rjs"))
  assert best.logprob_scores == 1  # 20, 32 a call


def test_filtered_samples_need_others_for_the_kl():
  sizes = {**SIZES, "evaluation__num_queries": 50, "sampling__evaluation__temperature": 0.3}
  work = round_work(tiny.config(**sizes))
  assert work.evaluated_queries == work.kl_queries == 50
  assert work.evaluation_logprob_scores == 2 * 2  # one to each of 50, by two policies
