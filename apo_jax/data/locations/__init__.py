"""The rows of a data set, from wherever it is (docs/locations.md has an example of every form).

A path, a folder, a glob, or gs://, s3://, https://, file:// …
    JSON, parquet, Arrow, CSV and TSV files, where text also compressed; by fsspec
hf://OWNER/NAME[@REVISION]?split=train&name=CONFIG&data_dir=DIR&streaming=true
    a data set of the hub, or a local directory; by `datasets`. With streaming=true its files are
    not downloaded to disk first; every row is read all the same. hf://datasets/OWNER/NAME/FILE and
    the addresses of the hub's pages are read too
a folder by `save_to_disk`
    by `datasets`; ?split=test chooses the split
tfds://NAME[/CONFIG][:VERSION]?split=train&data_dir=DIR
    ArrayRecord files that were prepared; by `tfds.data_source`, which needs no TensorFlow

A row is a dict; a row that cannot be read is a `BadRow` in its place. Bytes that are not UTF-8 stay
in a text as lone surrogates, so that only a row whose texts are used is bad for them.
"""

from apo_jax.data.locations.dispatch import read_rows
from apo_jax.data.locations.errors import LocationError
from apo_jax.data.locations.rows import Rows
