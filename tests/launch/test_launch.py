import json
import os
import pathlib
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = ["launch/tpu_pod.sh", "launch/slurm.sh", ".ci/run"]

# Programs that local.py runs as modules, one process each.
ECHO = """
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "xla_flags": os.environ.get("XLA_FLAGS")}))
print("a warning", file=sys.stderr)
if sys.argv[-1] != "--process_id=0":
  print("no newline", end="")
"""

FAMILY = """
import os, pathlib, signal, sys, time
here = pathlib.Path(sys.argv[1])
process_id = int(sys.argv[-1].removeprefix("--process_id="))
role = sys.argv[2 + process_id]
if role == "deaf":
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
if role == "tells":
  def tell(number, frame):
    (here / f"told_{process_id}").write_text(str(int(number)))
    sys.exit(0)
  signal.signal(signal.SIGINT, tell)
  signal.signal(signal.SIGTERM, tell)
(here / f"new_{process_id}").write_text(str(os.getpid()))
(here / f"new_{process_id}").rename(here / f"pid_{process_id}")
while role != "fails" or len(list(here.glob("pid_*"))) < 3:
  time.sleep(0.02)
sys.exit(7)
"""

COLLECTIVE = """
import argparse, json
import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from apo_jax.devices import distributed

parser = argparse.ArgumentParser()
parser.add_argument("--coordinator_address")
parser.add_argument("--num_processes", type=int)
parser.add_argument("--process_id", type=int)
parser.add_argument("--fails", type=int, default=-1)
flags = parser.parse_args()
distributed.initialize(flags.coordinator_address, flags.num_processes, flags.process_id, auto=False)
mesh = jax.make_mesh((jax.device_count(),), ("data",))
sharding = jax.NamedSharding(mesh, jax.P("data"))
numbers = jax.make_array_from_callback((8,), sharding, lambda index: jnp.arange(8.0)[index])
found = {
  "sum": float(jax.jit(jnp.sum)(numbers)),
  "processes": multihost_utils.process_allgather(jnp.int32(jax.process_index())).tolist(),
  "devices": jax.device_count(),
  "local_devices": jax.local_device_count(),
}
print(json.dumps(found), flush=True)
if flags.process_id == flags.fails:
  raise RuntimeError("this process fails")
if flags.fails >= 0:
  multihost_utils.sync_global_devices("never reached by the process that failed")
"""


def local(directory, program, *options, arguments=(), **environment):
  """The command and environment that run `program` by launch/local.py."""
  (directory / "program.py").write_text(program)
  command = [sys.executable, ROOT / "launch/local.py", *options, "--module=program", "--"]
  inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  path = f"{directory}{os.pathsep}{ROOT}"
  environment = {**inherited, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **environment}
  return {"args": [*command, *arguments], "env": environment, "cwd": directory, "text": True}


def run(**how):
  return subprocess.run(**how, capture_output=True, timeout=60)


def is_alive(process_id):
  try:
    os.kill(process_id, 0)
  except ProcessLookupError:
    return False
  return True


def test_local_passes_arguments_flags_and_output(tmp_path):
  arguments = ["--text=a b 'c' \"d\"", "--", "--processes=9"]
  how = local(
    tmp_path,
    ECHO,
    "--processes=2",
    "--devices_per_process=3",
    arguments=arguments,
    XLA_FLAGS="--other=1",
  )
  ended = run(**how)
  assert ended.returncode == 0
  lines = ended.stdout.splitlines()
  lines.remove("[1] no newline")
  first, second = sorted(lines, key=lambda line: line.startswith("[1] "))
  found = [json.loads(first), json.loads(second.removeprefix("[1] "))]
  address = found[0]["arguments"][-3]
  assert re.fullmatch(r"--coordinator_address=127\.0\.0\.1:\d+", address)
  for index, process in enumerate(found):
    common = [*arguments, address, "--num_processes=2", f"--process_id={index}"]
    assert process["arguments"] == common
    assert process["xla_flags"] == "--other=1 --xla_force_host_platform_device_count=3"
  assert sorted(ended.stderr.splitlines()) == ["[1] a warning", "a warning"]


def test_local_mixes_no_lines_of_two_processes(tmp_path):
  ended = run(**local(tmp_path, "for i in range(2000): print('line', i)", "--processes=2"))
  lines = ended.stdout.splitlines()
  assert [line for line in lines if not line.startswith("[1] ")] == [
    f"line {i}" for i in range(2000)
  ]
  assert [line for line in lines if line.startswith("[1] ")] == [
    f"[1] line {i}" for i in range(2000)
  ]


def test_local_leaves_xla_flags_alone(tmp_path):
  ended = run(**local(tmp_path, ECHO, "--processes=1", XLA_FLAGS="--other=1"))
  assert json.loads(ended.stdout.splitlines()[0])["xla_flags"] == "--other=1"


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ([], "--processes"),
    (["--processes=0"], "it must be a whole number of at least 1"),
    (["--processes=1", "--devices_per_process=0"], "it must be a whole number of at least 1"),
    (["--processes=1", "--config=x"], "--config=x"),
  ],
)
def test_local_refuses_wrong_options(tmp_path, options, message):
  ended = run(**local(tmp_path, ECHO, *options))
  assert ended.returncode == 2
  assert message in ended.stderr
  assert ended.stdout == ""


def test_local_joins_the_processes(tmp_path):
  ended = run(**local(tmp_path, COLLECTIVE, "--processes=2", "--devices_per_process=2"))
  assert ended.returncode == 0, ended.stderr
  expected = {"sum": 28.0, "processes": [0, 1], "devices": 4, "local_devices": 2}
  lines = [line for line in ended.stdout.splitlines() if "devices" in line]
  found = {line.startswith("[1] "): json.loads(line.removeprefix("[1] ")) for line in lines}
  assert found == {False: expected, True: expected}


def test_a_failing_process_of_a_joined_run_ends_it_at_once(tmp_path):
  started = time.monotonic()
  ended = run(**local(tmp_path, COLLECTIVE, "--processes=2", arguments=["--fails=1"]))
  assert ended.returncode != 0
  assert "[1] RuntimeError: this process fails" in ended.stderr
  assert time.monotonic() - started < 40  # JAX's own farewell would wait for five minutes


def test_local_returns_the_failure_and_ends_the_others(tmp_path):
  roles = ["sleeps", "fails", "deaf"]
  how = local(tmp_path, FAMILY, "--processes=3", arguments=[tmp_path, *roles])
  impatient = "import local, sys; local.PATIENCE_SECONDS = 1; sys.exit(local.main(sys.argv[1:]))"
  how["args"][1:2] = ["-c", impatient]
  how["env"]["PYTHONPATH"] += f"{os.pathsep}{ROOT / 'launch'}"
  ended = run(**how)
  assert ended.returncode == 7, ended.stderr
  assert "local.py: process 1 ended with exit code 7." in ended.stderr
  process_ids = [int((tmp_path / f"pid_{index}").read_text()) for index in range(3)]
  assert not any(is_alive(process_id) for process_id in process_ids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_local_forwards_signals(tmp_path, number):
  roles = ["tells", "tells"]
  how = local(tmp_path, FAMILY, "--processes=2", arguments=[tmp_path, *roles])
  with subprocess.Popen(**how, start_new_session=True) as launcher:
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("pid_*"))) < 2 and time.monotonic() < deadline:
      time.sleep(0.02)
    launcher.send_signal(number)
    assert launcher.wait(timeout=30) == 128 + number
  for index in range(2):
    assert (tmp_path / f"told_{index}").read_text() == str(int(number))
    assert not is_alive(int((tmp_path / f"pid_{index}").read_text()))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_bash_and_executable(script):
  assert subprocess.run(["bash", "-n", ROOT / script]).returncode == 0
  assert os.access(ROOT / script, os.X_OK)


AWKWARD = ["--config=configs/demo.py", "--text=a b", '--quote=it\'s "so" $HOME `x` \\ *', "--e="]


def pod(*arguments, script=ROOT / "launch/tpu_pod.sh", **environment):
  return run(args=["bash", script, *arguments], env={**os.environ, **environment}, text=True)


def test_tpu_pod_prints_its_commands():
  ended = pod("--name=my pod", "--zone=us-east5-b", "--dry_run", "--", *AWKWARD)
  assert ended.returncode == 0, ended.stderr
  archive, copy, install, play = map(shlex.split, ended.stdout.splitlines())
  assert archive[0] == "git" and archive[3] == "archive" and archive[-1] == "HEAD"
  assert pathlib.Path(archive[2]) == ROOT
  file = archive[-2].removeprefix("--output=")
  assert not pathlib.Path(file).parent.exists()
  tpu, where = ["gcloud", "compute", "tpus", "tpu-vm"], ["--zone=us-east5-b", "--worker=all"]
  assert copy == [*tpu, "scp", file, "my pod:apo_jax.tar.gz", *where]
  assert install[:-1] == play[:-1] == [*tpu, "ssh", "my pod", *where]
  assert ".[tpu,gcs]" in install[-1].replace("\\", "")
  remote = play[-1].removeprefix("--command=")
  command = [".venv/bin/python", "-m", "apo_jax.main", *AWKWARD, "--distributed"]
  assert shlex.split(remote) == ["cd", "apo_jax", "&&", *command]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "the name of the TPU is missing"),
    (["--name=pod"], "the zone of the TPU is missing"),
    (["--name=pod", "--zone=z"], "the arguments of the run are missing"),
    (["--name=pod", "--zone=z", "--"], "the arguments of the run are missing"),
    (["--name=pod", "--zone=z", "--config=x"], "unknown argument '--config=x'"),
    (["--name=pod", "--zone=z", "--python=", "--", "--config=x"], "--python is empty"),
  ],
)
def test_tpu_pod_refuses_incomplete_arguments(arguments, message):
  ended = pod("--dry_run", *arguments)
  assert ended.returncode == 2
  assert message in ended.stderr
  assert ended.stdout == ""


def write_script(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{text}")
  path.chmod(0o755)
  return path


def test_tpu_pod_runs_on_a_worker(tmp_path):
  """The whole script, with a directory for a worker and stand-ins for gcloud and Python."""
  project, worker, programs = tmp_path / "project", tmp_path / "worker", tmp_path / "programs"
  worker.mkdir()
  (project / "launch").mkdir(parents=True)
  script = shutil.copy(ROOT / "launch/tpu_pod.sh", project / "launch")
  (project / "code.py").write_text("committed")
  git = ["git", "-C", project, "-c", "user.name=a", "-c", "user.email=a@b.c"]
  for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
    subprocess.run([*git, *arguments], check=True)
  (project / "code.py").write_text("not committed")
  write_script(
    programs / "gcloud",
    """
case $4 in
  scp) cp "$5" "$WORKER/${6#*:}" ;;
  ssh) last=${*: -1} && cd "$WORKER" && exec bash -c "${last#--command=}" ;;
esac
""",
  )
  stand_in = 'printf "%s\\n" "${0##*/}" "$PWD" "$(cat code.py)" "$@" >>"$WORKER/log"\n'
  create = 'if [[ $2 == venv ]]; then mkdir -p .venv/bin && cp "$0" .venv/bin/python'
  create += ' && cp "$0" .venv/bin/pip; fi\n'
  write_script(programs / "python3.12", stand_in + create)
  path = f"{programs}{os.pathsep}{os.environ['PATH']}"
  options = ["--name=pod", "--zone=z", "--python=python3.12", "--", *AWKWARD]
  ended = pod(*options, script=script, PATH=path, WORKER=str(worker))
  assert ended.returncode == 0, ended.stderr
  assert "not committed are not sent" in ended.stderr
  home = str(worker / "apo_jax")
  log = (worker / "log").read_text().splitlines()
  assert log == [
    *["python3.12", home, "committed", "-m", "venv", ".venv"],
    *["pip", home, "committed", "install", ".[tpu,gcs]"],
    *["python", home, "committed", "-m", "apo_jax.main", *AWKWARD, "--distributed"],
  ]


@pytest.mark.parametrize(("gpus", "device_ids"), [("4", "0,1,2,3"), ("1", "0"), ("", "")])
def test_slurm_runs_one_task_a_node_with_all_its_gpus(tmp_path, gpus, device_ids):
  write_script(tmp_path / "srun", 'printf "%s\\n" "${JAX_LOCAL_DEVICE_IDS:-}" "$@"\n')
  path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
  environment = {**os.environ, "PATH": path, "SLURM_GPUS_ON_NODE": gpus}
  ended = run(args=["bash", ROOT / "launch/slurm.sh", *AWKWARD], env=environment, text=True)
  assert ended.returncode == 0, ended.stderr
  command = ["python", "-m", "apo_jax.main", *AWKWARD, "--distributed"]
  srun = ["--ntasks-per-node=1", "--kill-on-bad-exit=1"]
  assert ended.stdout.splitlines() == [device_ids, *srun, *command]


def test_slurm_refuses_to_run_nothing():
  ended = run(args=["bash", ROOT / "launch/slurm.sh"], text=True)
  assert ended.returncode == 2
  assert "the arguments of the run are missing" in ended.stderr


def test_gke_starts_one_pod_a_host():
  job_set = yaml.safe_load((ROOT / "launch/gke.yaml").read_text())
  (replicated,) = job_set["spec"]["replicatedJobs"]
  job = replicated["template"]["spec"]
  pod_spec = job["template"]["spec"]
  (container,) = pod_spec["containers"]
  rows, columns = pod_spec["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
  chips = container["resources"]["limits"]["google.com/tpu"]
  assert job["parallelism"] == job["completions"] == int(rows) * int(columns) // chips
  assert container["command"] == ["python", "-m", "apo_jax.main"]
  assert container["args"][-1] == "--distributed"
  config = container["args"][0].removeprefix("--config=")
  assert config.startswith("configs/")
  # A mounted bucket keeps no promise that a run needs.
  assert container["args"][1].startswith("--run_dir=gs://") and "volumes" not in pod_spec


def test_setup_names_the_package_and_bounds_what_it_needs(monkeypatch):
  said = {}
  # A stand-in, as an environment of Python 3.12 has no setuptools.
  setuptools = types.ModuleType("setuptools")
  setuptools.find_packages = lambda **_: ["apo_jax"]
  setuptools.setup = said.update
  monkeypatch.setitem(sys.modules, "setuptools", setuptools)
  runpy.run_path(str(ROOT / "setup.py"))
  assert (said["name"], said["version"]) == ("apo_jax", "0.1.0")
  assert said["python_requires"] == ">=3.11"
  assert set(said["extras_require"]) == {
    *("test", "tpu", "cuda", "gcs", "judge", "tensorboard", "wandb")
  }
  for package, names in said["package_data"].items():
    assert all(ROOT.joinpath(*package.split("."), name).is_file() for name in names)
  lines = [
    *said["install_requires"],
    *(line for e in said["extras_require"].values() for line in e),
  ]
  assert all(re.fullmatch(r"[\w-]+(\[\w+\])?>=[\d.]+,<[\d.]+", line) for line in lines)
  names = {re.match(r"[\w-]+", line).group() for line in lines}
  needed = "jax flax optax orbax-checkpoint transformers datasets tensorflow-datasets absl-py"
  assert set(needed.split()) <= names
  assert "torch" not in names
