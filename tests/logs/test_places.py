"""Which paths are of the file system, which of a bucket, and which are refused."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.logs import places
from apo_jax.logs.places import find_path, find_place


@pytest.mark.parametrize("text", ["runs/a", "/data/a:b", "a.b/c", "~/runs", "", "runs/gs", "x:y"])
def test_paths_of_the_file_system_stay_as_they_are(text):
  for find in (find_place, find_path):
    found = find(text, "--run_dir")
    assert found == Path(text) and isinstance(found, Path)
  assert not places.is_bucket(find_place(text, "--run_dir"))


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("gs:/bucket/runs", "write gs://bucket/runs"),
    ("gs:bucket/runs", "write gs://bucket/runs"),
    ("GS://bucket/runs", "write gs://bucket/runs"),
    ("gcs://bucket/runs", "write gs://bucket/runs"),
    ("s3://bucket/runs", "or gs://BUCKET/DIRECTORY"),
    ("file:///runs/a", "a path of the file system"),
    ("https://host/runs", "a path of the file system"),
    ("gs://bucket", "gs://BUCKET/DIRECTORY"),
    ("gs://bucket/", "gs://BUCKET/DIRECTORY"),
    ("gs://", "gs://BUCKET/DIRECTORY"),
    ("gs:///runs", "gs://BUCKET/DIRECTORY"),
    ("gs://My Bucket/runs", "small letters"),
    ("gs://bucket/runs/*", "without '*'"),
    ("gs://bucket/runs/../a", "'..'"),
    ("gs://bucket/run#2", "'#'"),
  ],
)
def test_what_is_neither_is_refused_by_the_flag_the_value_and_what_is_right(text, said):
  with pytest.raises(ConfigError, match="--run_dir is") as raised:
    find_place(text, "--run_dir")
  assert repr(text) in str(raised.value) and said in str(raised.value)


def test_what_must_be_of_the_file_system_is_not_of_a_bucket():
  with pytest.raises(ConfigError, match="--output is 'gs://bucket/out'; it must be a path of the"):
    find_path("gs://bucket/out", "--output")


def test_a_package_that_is_missing_is_named(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ConfigError, match=r"gcsfs is not installed: pip install 'apo_jax\[gcs\]'"):
    find_place("gs://bucket/runs", "--run_dir")


def test_directories_below_can_be_left_out(tmp_path):
  for name in ("a/b", "c/d"):
    (tmp_path / name).mkdir(parents=True)
  seen = []
  for directory, inner in places.directories_below(tmp_path):
    seen.append(directory.relative_to(tmp_path))
    if directory.name == "a":
      inner.clear()
  assert sorted(map(str, seen)) == [".", "a", "c", "c/d"]


def test_what_goes_while_it_is_counted_is_left_out(tmp_path, monkeypatch):
  """An ended process's leftovers are deleted in the background while a start counts bytes."""
  for name in ("kept/a", "leftover/deep/b"):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"12")
  walk = os.walk

  def walked(top):
    for folder, inner, names in walk(top):
      yield folder, inner, [*names, "gone"]
      shutil.rmtree(tmp_path / "leftover", ignore_errors=True)

  monkeypatch.setattr(os, "walk", walked)
  assert places.sizes_below(tmp_path) == {tmp_path / "kept/a": 2}
  assert places.sizes_below(tmp_path / "leftover") == {}
