import gzip
import json

import datasets
import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from apo_jax.data.bad_rows import BadRow
from apo_jax.data.locations import LocationError, read_rows

ROWS = [{"query": f"é{i}\u2028?", "responses": ["a", "b"], "scores": [1.0, 0.5]} for i in range(5)]
LINES = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS).encode()
LIST = json.dumps(ROWS, indent=1).encode()


def zst(data: bytes) -> bytes:
  sink = pyarrow.BufferOutputStream()
  with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
    stream.write(data)
  return sink.getvalue().to_pybytes()


def failure(location):
  with pytest.raises(LocationError) as error:
    list(read_rows(str(location)))
  return str(error.value)


def of_lines(tmp_path, data):
  path = tmp_path / "rows.jsonl"
  path.write_bytes(data)
  return list(read_rows(str(path)))


@pytest.mark.parametrize(
  ("name", "data"),
  [
    ("a.jsonl", LINES),
    ("a.json", LINES),
    ("a.json", LIST),
    ("a.json", b"\n " + LIST),
    ("a.JSON", b"\xef\xbb\xbf" + LIST),
    ("a.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n\n")),
    ("a.b.jsonl.gz", gzip.compress(LINES[:40]) + gzip.compress(LINES[40:])),
    ("a.json.gz", gzip.compress(LIST)),
    ("a.jsonl.zst", zst(LINES)),
    ("a.json.zst", zst(LIST)),
  ],
)
def test_json_is_read_as_list_or_lines_and_decompressed(tmp_path, name, data):
  path = tmp_path / name
  path.write_bytes(data)
  assert list(read_rows(str(path))) == ROWS


def test_parquet_is_read(tmp_path):
  path = tmp_path / "a.parquet"
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
  assert list(read_rows(str(path))) == ROWS


def test_a_parquet_text_that_is_not_utf8_is_one_bad_row(tmp_path):
  texts = pyarrow.array([b"a", b"\xff", b"c"]).view(pyarrow.string())
  pyarrow.parquet.write_table(pyarrow.table({"query": texts}), tmp_path / "a.parquet")
  first, second, third = read_rows(str(tmp_path / "a.parquet"))
  assert (first, third) == ({"query": "a"}, {"query": "c"})
  assert isinstance(second, BadRow) and second.reason == "not UTF-8"


@pytest.mark.parametrize("suffix", ["jsonl", "json.gz", "parquet"])
def test_fsspec_file_systems_are_read(suffix):
  location = f"memory://apo_jax_test/a.{suffix}"
  with fsspec.open(location, "wb") as file:
    if suffix == "parquet":
      pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    else:
      file.write(gzip.compress(LIST) if suffix == "json.gz" else LINES)
  assert list(read_rows(location)) == ROWS


def test_rows_come_before_the_end_is_read(tmp_path):
  path = tmp_path / "a.jsonl.gz"
  path.write_bytes(gzip.compress(LINES) + b"no gzip")
  rows = read_rows(str(path))
  assert next(rows) == ROWS[0]
  with pytest.raises(LocationError):
    list(rows)


def test_bad_lines_take_the_place_of_rows(tmp_path):
  rows = of_lines(tmp_path, b'{"a": 1}\n{"a": \n[1, 2]\n\xff\xfe{\x00\n\n7\n{"a": 2}\n')
  assert rows[0] == {"a": 1} and rows[5] == {"a": 2}
  assert [row.reason for row in rows[1:5]] == ["not JSON", "not JSON", "not UTF-8", "not JSON"]
  assert "it is [1, 2]; it must be a JSON object" in str(rows[2])


def test_bytes_that_are_not_utf8_stay_in_their_text(tmp_path):
  assert of_lines(tmp_path, b'{"a": "\xff", "b": "c"}\n') == [{"a": "\udcff", "b": "c"}]
  (tmp_path / "a.json").write_bytes(b'[{"a": "\xff"}, {"a": "b"}]')
  assert list(read_rows(str(tmp_path / "a.json"))) == [{"a": "\udcff"}, {"a": "b"}]


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_rows(tmp_path, data):
  assert of_lines(tmp_path, data) == []


@pytest.mark.parametrize("name", ["a.txt", "a", "a.gz", "a.parquet.gz", "a.arrow.zst"])
def test_an_unknown_suffix_is_named(tmp_path, name):
  (tmp_path / name).write_bytes(LINES)
  assert "it must end in .json, .jsonl, .parquet, .arrow, .csv or .tsv" in failure(tmp_path / name)


@pytest.mark.parametrize(
  ("location", "words"),
  [
    ("nowhere/a.jsonl", "No such file"),
    ("memory://apo_jax_test/nowhere.jsonl", "nowhere.jsonl"),
    ("sftp9://host/a.jsonl", "its scheme is 'sftp9'; it must be hf, tfds or one of fsspec's"),
    ("hf://a/b?splt=train", "its parameter splt is 'train', but there is none of that name"),
    ("hf://a/b?streaming=yes", "its streaming is 'yes'; it must be true or false"),
    ("hf://?split=train", "it names no data set"),
    ("hf://a/b?split=train&split=test", "split=train+test joins two"),
    ("hf://a/b?split=train,test", "'+' joins splits, as in split=train+test"),
    ("hf://a/b?split=", "its parameter split has no value"),
    ("hf://a/b?split=train[:9]&streaming=true", "streaming reads whole splits"),
    ("hf:///nowhere/set", "there is no directory /nowhere/set"),
    ("hf://a/b/c.parquet", "hf://datasets/a/b/c.parquet reads a file of one"),
    ("nowhere/to_be_found", "there is no such file or folder; hf://nowhere/to_be_found reads"),
    ("file://relative/a.jsonl", "it must be file:///ABSOLUTE/PATH"),
    ("~/nowhere/a.jsonl", "No such file"),
    ("tfds://a?config=b", "known are split, data_dir"),
    ("tfds://nowhere_to_be_found", "prepared as ArrayRecord files in data_dir"),
  ],
)
def test_what_cannot_be_read_is_named(location, words):
  message = failure(location)
  assert words in message and "\n" not in message


@pytest.mark.parametrize(
  ("name", "data"), [("a.json", b'[{"a": 1}'), ("a.jsonl.gz", LINES), ("a.parquet", b"PAR1")]
)
def test_a_broken_file_is_an_error(tmp_path, name, data):
  (tmp_path / name).write_bytes(data)
  assert failure(tmp_path / name)


def test_a_truncated_file_is_an_error(tmp_path):
  for name, data in (("a.jsonl.gz", gzip.compress(LINES)), ("a.jsonl.zst", zst(LINES))):
    (tmp_path / name).write_bytes(data[:-12])
    assert failure(tmp_path / name)


@pytest.mark.parametrize("streaming", ["", "&streaming=true", "&streaming=false"])
def test_datasets_reads_a_local_directory(tmp_path, monkeypatch, streaming):
  monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
  (tmp_path / "set@1").mkdir()
  (tmp_path / "set@1" / "test.jsonl").write_bytes(LINES)
  assert list(read_rows(f"hf://{tmp_path}/set@1?split=test{streaming}")) == ROWS
  assert "split" in failure(f"hf://{tmp_path}/set@1?split=train{streaming}")


def test_a_hub_uri_says_what_datasets_loads(monkeypatch):
  calls = []
  monkeypatch.setattr(
    datasets, "load_dataset", lambda *args, **named: calls.append((args, named)) or ROWS
  )
  options = {"name": "config", "data_dir": "x/y"}
  named = "name=config&data_dir=x%2Fy"
  for given, split in (
    ("train[:10%]", "train[:10%]"),
    ("train[:10%25]", "train[:10%]"),
    ("train+test[2:4]", "train+test[2:4]"),
    ("train%5B:5%25%5D%2Btest", "train[:5%]+test"),
  ):
    assert list(read_rows(f"hf://owner/name@v1.2?split={given}&{named}")) == ROWS
    assert calls.pop() == (
      ("owner/name",),
      {**options, "split": split, "revision": "v1.2", "streaming": False},
    )
  assert list(read_rows("hf://datasets/owner/name@~parquet")) == ROWS
  plain = {"split": "train", "streaming": False}
  assert calls.pop() == (("owner/name",), {**plain, "revision": "refs/convert/parquet"})
  # `datasets` streams whole splits, one at a time.
  assert list(read_rows("hf://name?split=train+test&streaming=true")) == [*ROWS, *ROWS]
  assert [named["split"] for _, named in calls] == ["train", "test"]
  assert all(named["streaming"] for _, named in calls)


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch):
  def offline(*arguments, **named):
    raise ConnectionError("Couldn't reach 'owner/name' on the Hub (OfflineModeIsEnabled)\nmore")

  monkeypatch.setattr(datasets, "load_dataset", offline)
  assert failure("hf://owner/name") == (
    "Couldn't reach 'owner/name' on the Hub (OfflineModeIsEnabled); it must be a data set of the"
    " hub, which must be reached, or a local directory"
  )
