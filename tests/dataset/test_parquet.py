"""Parquet datasets keep the keys, the further columns and the schema metadata of their rows."""

import datetime
import json
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from environment import needs_names_in_utf_8

from sdtrt.dataset import LatentDataset
from sdtrt.dataset.runner import Summary
from sdtrt.dataset.sources import IMAGES, list_samples

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

Running = Callable[..., Summary]
METADATA = {b"huggingface": b'{"info": {}}', b"odd \xff": b"\x00\x01"}


def further_columns() -> dict[str, Any]:
    """Return columns of many types, five rows each, with nulls."""
    texts = pyarrow.array(["x", None, "x", "y", "x"])
    nested = pyarrow.list_(pyarrow.struct([("b", pyarrow.int8()), ("c", pyarrow.list_(pyarrow.float32()))]))
    return {
        "Caption Text": pyarrow.array(["one", None, "three", "", "five"], pyarrow.large_string()),
        "class": texts.dictionary_encode(),
        "small": pyarrow.array([1, None, 3, 4, 5], pyarrow.int8()),
        "score": pyarrow.array([math.nan, math.inf, None, -0.0, 1.5], pyarrow.float32()),
        "nested": pyarrow.array([[{"b": 1, "c": [1.0, None]}], [], None, [None], [{"b": None, "c": []}]], nested),
        "when": pyarrow.array([datetime.datetime(2026, 1, 2)] * 5, pyarrow.timestamp("us", tz="Europe/Berlin")),
        "price": pyarrow.array([Decimal("1.50"), None, None, None, None], pyarrow.decimal128(9, 2)),
        "nothing": pyarrow.nulls(5),
        "map": pyarrow.array([[("k", 1)], None, [], None, None], pyarrow.map_(pyarrow.string(), pyarrow.int16())),
        "vector": pyarrow.array([[1, 2]] * 5, pyarrow.list_(pyarrow.uint16(), 2)),
        "embedding": pyarrow.array([b"\0\1"] * 5, pyarrow.binary(2)),
        "nbytes": pyarrow.array([9, 8, 7, 6, None], pyarrow.uint32()),
        "key": pyarrow.array(["a/b.c", "../d", "a/b.c", "e e", "\u00e9"]),
    }


@pytest.fixture
def source(tmp_path: Path, image_files: dict[str, bytes]) -> Path:
    images = [*image_files.values()][:5]
    column = pyarrow.array([{"bytes": data, "path": f"p/{n}.png"} for n, data in enumerate(images)])
    further = further_columns()
    fields = [pyarrow.field(name, array.type, metadata={b"of": name.encode()}) for name, array in further.items()]
    schema = pyarrow.schema([pyarrow.field("image", column.type), *fields], METADATA)
    table = pyarrow.Table.from_arrays([column, *further.values()], schema=schema)
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=3)
    return tmp_path / "in.parquet"


def read_all_tables(folder: Path) -> Any:
    """Return the tables of a destination as one table; their schemas must be equal."""
    tables = [parquet.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    assert all(table.schema.equals(tables[0].schema, check_metadata=True) for table in tables)
    return pyarrow.concat_tables(tables)


@pytest.mark.parametrize("shard_size", [2, 99])
def test_parquet_round_trip_keeps_columns(running: Running, source: Path, tmp_path: Path, shard_size: int) -> None:
    packed, back = tmp_path / "packed", tmp_path / "back"
    for operation, where, out in (("encode", source, packed), ("decode", packed, back)):
        assert running(operation, str(where), str(out), form="parquet", shard_size=shard_size).errors == []
        before, after = parquet.read_table(source), read_all_tables(out)
        for name in further_columns():
            assert after.schema.field(name).type == before.schema.field(name).type, name
            assert after.schema.field(name).metadata[b"of"] == name.encode()
            assert repr(after[name].to_pylist()) == repr(before[name].to_pylist())
        assert METADATA.items() <= after.schema.metadata.items()
        assert after["image.path"].to_pylist() == [f"p/{n}.png" for n in range(5)]
    assert set(back_names := read_all_tables(back).schema.names) == {"png", "image.path", *further_columns()}
    assert len(back_names) == len(set(back_names))


def test_parquet_image_path_is_the_key(running: Running, tmp_path: Path, image_files: dict[str, bytes]) -> None:
    image = image_files["part 0/0"]
    paths = ["sub/one.jpg", "sub/one.jpg", None, "../up.png", ""]
    rows = [{"bytes": image, "path": path} for path in paths]
    parquet.write_table(pyarrow.table({"image": rows}), tmp_path / "in.parquet")
    keys = [sample.key for sample in list_samples(str(tmp_path / "in.parquet"), IMAGES)]
    assert keys == ["sub/one", "sub/one_2", "in-000000002", "_/up", "in-000000004"]
    running("encode", str(tmp_path / "in.parquet"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "sub" / "one_2.sdt").is_file()


def test_parquet_column_with_the_name_of_the_result_is_kept(
    running: Running, tmp_path: Path, image_files: dict[str, bytes]
) -> None:
    table = pyarrow.table({"image": [image_files["part 0/0"]], "sdt": [7], "source.sdt": ["x"]})
    parquet.write_table(table, tmp_path / "in.parquet")
    running("encode", str(tmp_path / "in.parquet"), str(tmp_path / "out"), form="parquet")
    row = read_all_tables(tmp_path / "out").to_pylist()[0]
    assert (row["source.sdt_"], row["source.sdt"], row["sdt"][:3], row["nbytes"]) == (7, "x", b"SDT", len(row["sdt"]))


def test_parquet_files_with_different_schemas_are_joined(
    running: Running, tmp_path: Path, image_files: dict[str, bytes]
) -> None:
    image = image_files["part 0/0"]
    for number, further in enumerate(({"n": [1]}, {"n": ["one"]}, {"m": [[1.5]]}, {})):
        parquet.write_table(pyarrow.table({"image": [image], **further}), tmp_path / f"p-{number}.parquet")
    assert (
        running("encode", str(tmp_path / "p-*.parquet"), str(tmp_path / "out"), form="parquet", shard_size=9).errors
        == []
    )
    rows = read_all_tables(tmp_path / "out").to_pylist()
    assert [row["n"] for row in rows] == ["1", '"one"', None, None]
    assert [row["m"] for row in rows] == [None, None, [1.5], None]


def test_parquet_to_folder_writes_strict_json(running: Running, source: Path, tmp_path: Path) -> None:
    needs_names_in_utf_8()
    out = tmp_path / "out"
    assert running("encode", str(source), str(out)).errors == []

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    rows = [json.loads(path.read_bytes(), parse_constant=refuse) for path in sorted(out.rglob("*.json"))]
    rows = [row for row in rows if "vector" in row]
    assert len(rows) == 5
    assert {row.get("score") for row in rows} == {None, -0.0, 1.5}
    assert (out / "a" / "b.c.caption_text").read_bytes() == b"one"
    assert (out / "a" / "b.c_2.sdt").is_file()


def test_latent_dataset_parquet_fields_have_values(running: Running, source: Path, tmp_path: Path) -> None:
    running("encode", str(source), str(tmp_path / "out"), form="parquet")
    fields = {key: fields for key, _, fields in LatentDataset(str(tmp_path / "out"))}
    assert fields["a/b.c"]["nested"] == [{"b": 1, "c": [1.0, None]}]
    assert not {"key", "image.path", "nothing"} & fields["a/b.c"].keys()
    assert list(fields) == ["a/b.c", "_/d", "a/b.c_2", "e e", "\u00e9"]


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
@pytest.mark.parametrize("name", ["day", "zone", "nested"])
def test_parquet_value_that_python_lacks_is_kept(
    running: Running, image_files: dict[str, bytes], tmp_path: Path, form: str, name: str
) -> None:
    """Python lacks dates after the year 9999 and some time zones; such a value becomes text."""
    days = pyarrow.array([2**31 - 1], pyarrow.date32())
    column = {
        "day": days,
        "zone": pyarrow.array([1000], pyarrow.timestamp("ms", "Nowhere/Nope")),
        "nested": pyarrow.StructArray.from_arrays([days], ["day"]),
    }[name]
    image = image_files["part 0/0"]
    parquet.write_table(pyarrow.table({"image": [image], "key": ["k"], "odd": column}), tmp_path / "in.parquet")
    summary = running("encode", str(tmp_path / "in.parquet"), str(tmp_path / "out"), form=form)
    assert (summary.errors, summary.sums["samples"]) == ([], 1)
    [(key, _, fields)] = LatentDataset(str(tmp_path / "out"))
    assert key == "k"
    text = fields["odd"].decode() if isinstance(fields["odd"], bytes) else fields["odd"]
    assert {"day": "2147483647", "zone": "1970-01-01 00:00:01", "nested": "2147483647"}[name] in text
    if form == "parquet":
        assert read_all_tables(tmp_path / "out").column("odd").type == column.type
