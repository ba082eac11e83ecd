"""Addresses of the hub: what they mean, and what would work in their place."""

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from apo_jax.data.locations import LocationError, read_rows
from apo_jax.data.locations.hub import hub_address

PAGE = "https://huggingface.co/datasets/owner/name"


@pytest.mark.parametrize(
  ("address", "meant"),
  [
    (PAGE, "hf://owner/name"),
    (f"{PAGE}/viewer", "hf://owner/name"),
    (f"{PAGE}/viewer/config/test?row=3", "hf://owner/name?name=config&split=test"),
    (f"{PAGE}/embed/viewer/config/test", "hf://owner/name?name=config&split=test"),
    (f"{PAGE}/tree/main", "hf://datasets/owner/name@main"),
    (f"{PAGE}/tree/main/data", "hf://datasets/owner/name@main/data"),
    (f"{PAGE}/blob/main/data/a.parquet", "hf://datasets/owner/name@main/data/a.parquet"),
    (f"{PAGE}/resolve/v1/a%20b.jsonl?download=true", "hf://datasets/owner/name@v1/a b.jsonl"),
    (
      f"{PAGE}/blob/refs%2Fconvert%2Fparquet/default/train/0000.parquet",
      "hf://datasets/owner/name@refs%2Fconvert%2Fparquet/default/train/0000.parquet",
    ),
    ("https://hf.co/datasets/old_name/viewer/plain_text/test", "hf://old_name?name=plain_text&split=test"),
    ("https://example.org/datasets/a/b.jsonl", "https://example.org/datasets/a/b.jsonl"),
    ("hf://owner/name", "hf://owner/name"),
  ],
)  # fmt: skip
def test_pages_of_the_hub_mean_what_they_show(address, meant):
  assert hub_address(address) == meant


@pytest.mark.parametrize(
  ("address", "works"),
  [
    (
      "https://datasets-server.huggingface.co/rows?dataset=owner%2Fname&config=c&split=test&offset=0",
      "hf://owner/name?name=c&split=test reads all",
    ),
    ("https://huggingface.co/owner/model", "hf://OWNER/NAME reads a data set"),
    (f"{PAGE}/discussions/3", "hf://owner/name reads the data set"),
    (
      "https://github.com/owner/name/blob/main/a/b.jsonl",
      "https://raw.githubusercontent.com/owner/name/main/a/b.jsonl is the file",
    ),
    ("https://example.org/data/*.jsonl", "a web server lists no files"),
  ],
)
def test_other_pages_are_refused_with_what_works(address, works):
  with pytest.raises(LocationError) as error:
    read_rows(address)
  assert works in str(error.value)


class FakeHub(MemoryFileSystem):
  """The hub's file system, with two files."""

  protocol = "hf"
  store = {}  # noqa: RUF012
  pseudo_dirs = [""]  # noqa: RUF012

  @classmethod
  def _strip_protocol(cls, path):
    return "/" + path.removeprefix("hf://").strip("/")


def test_files_of_a_data_set_of_the_hub_are_read(monkeypatch):
  monkeypatch.setitem(_registry, "hf", FakeHub)
  hub = FakeHub()
  hub.pipe_file("/datasets/o/n/data/train-00000-of-00001.jsonl", b'{"a": 1}\n')
  hub.pipe_file("/datasets/o/n/data/test-00000-of-00001.jsonl", b'{"a": 2}\n')
  for end, rows in {
    "data/test-00000-of-00001.jsonl": [{"a": 2}],
    "data/*.jsonl": [{"a": 2}, {"a": 1}],
    "data": [{"a": 1}],
    "data?split=test": [{"a": 2}],
  }.items():
    assert list(read_rows(f"hf://datasets/o/n/{end}")) == rows
