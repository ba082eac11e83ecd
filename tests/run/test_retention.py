from apo_jax.logs.run_directory import RunDirectory
from apo_jax.run.retention import drop_old_checkpoints


def test_players_of_round_0_and_of_the_newest_rounds_stay(tmp_path):
  directory = RunDirectory(tmp_path)
  drop_old_checkpoints(directory, 3, keep=2)  # nothing is there yet
  names = ["00_supervised", "00_reward_base"]
  names += [f"{round:02d}_{kind}" for round in (1, 2, 99, 100) for kind in ("policy", "reward")]
  for name in names:
    directory.checkpoints(name).mkdir(parents=True)
  drop_old_checkpoints(directory, 100, keep=2)
  left = sorted(path.name for path in directory.all_checkpoints.iterdir())
  assert left == sorted(name for name in names if name[:2] in ("00", "99", "10"))
