"""Forms in which people keep tables: read as the same numbers, or named in one line."""

import gzip
import io
import json
import os
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from analysis.logs.flags import RunTableFlags, TableFlags
from analysis.logs.read import read_table
from analysis.logs.table import TableReading
from core.errors import BadInput

HEADER = ("params", "tokens", "loss")
ROWS = ((1e7, 5e8, 3.5), (3e7, 5e8, 3.25), (1e9, 2e10, 2.125))
PLAIN = "params,tokens,loss\n1e7,5e8,3.5\n3e7,5e8,3.25\n1e9,2e10,2.125\n"
RECORDS = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
BY_COLUMN = {name: [row[place] for row in ROWS] for place, name in enumerate(HEADER)}


def parquet(columns, **options):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, **options)
    return sink.getvalue()


def write(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


READ = {
    "semicolon.csv": "params;tokens;loss\n10000000;500000000;3.5\n30000000;5e8;3.25\n1e9;2e10;2.125\n",
    "decimal_comma.csv": "params;tokens;loss\n10000000;500000000;3,5\n30000000;5e8;3,25\n1e9;2e10;2,125\n",
    "european.csv": "params;tokens;loss\n10.000.000;500.000.000;3,5\n30.000.000;5e8;3,25\n1e9;2e10;2,125\n",
    "european_quoted.csv": 'params,tokens,loss\n1e7,5e8,"3,5"\n3e7,5e8,"3,25"\n1e9,2e10,"2,125"\n',
    "thousands.csv": 'params,tokens,loss\n"10,000,000","500,000,000",3.5\n"30,000,000",5e8,3.25\n1e9,2e10,2.125\n',
    "spaces.csv": "params,tokens,loss\n10 000 000,500\u202f000\u202f000,3.5\n30'000'000,5e8,3.25\n1e9,2e10,2.125\n",
    "underscores.csv": "params,tokens,loss\n10_000_000,500_000_000,3.5\n3_0000000,5e8,3.25\n1e9,2e10,2.125\n",
    "suffixes.csv": "params,tokens,loss\n10M,500m,3.5\n30 M,0.5B,3.25\n1b,20 billion,2.125\n",
    "tabs.tsv": PLAIN.replace(",", "\t"),
    "tabs.csv": PLAIN.replace(",", "\t"),
    "bars.csv": PLAIN.replace(",", "|"),
    "blanks.txt": "  params     tokens loss\n 1e7  5e8  3.5\n3e7 5e8 3.25\n1e9 2e10 2.125\n",
    "markdown.md": "| params | tokens | loss |\n|---|:---:|---:|\n"
    + "".join(f"| {n} | {d} | {loss} |\n" for n, d, loss in ROWS),
    "excel_says.csv": "sep=;\n" + PLAIN.replace(",", ";"),
    "crlf.csv": PLAIN.replace("\n", "\r\n"),
    "old_mac.csv": PLAIN.replace("\n", "\r"),
    "bom.csv": "\ufeff" + PLAIN,
    "utf16.csv": PLAIN.encode("utf-16"),
    "utf16_unmarked.csv": PLAIN.encode("utf-16-le"),
    "utf32.csv": PLAIN.encode("utf-32"),
    "gzipped.csv.gz": gzip.compress(PLAIN.encode()),
    "trailing.csv": PLAIN.replace("\n", ",\n"),
    "trailing_rows.csv": PLAIN.replace("\n", ",\n").replace("loss,", "loss"),
    "blank_lines.csv": "\n\n" + PLAIN.replace("\n", "\n\n") + ",,\n  ,  ,\n",
    "comments.csv": '# an "odd comment, of ours\n' + PLAIN.replace("3e7", "# and another\n3e7"),
    "comment_header.csv": "# params, tokens, loss\n" + PLAIN.partition("\n")[2],
    "index.csv": "," + PLAIN.replace("1e7", "0,1e7").replace("3e7", "1,3e7").replace("1e9", "2,1e9"),
    "two_indices.csv": ",," + PLAIN.replace("1e7", "0,x,1e7").replace("3e7", "1,x,3e7").replace("1e9", "2,x,1e9"),
    "other_names_twice.csv": PLAIN.replace("\n", ",a,b\n").replace("loss,a,b", "loss,note,note"),
    "copied_column.csv": "params,tokens,loss,params\n1e7,5e8,3.5,1e7\n3e7,5e8,3.25,3e7\n1e9,2e10,2.125,1e9\n",
    "quotes.csv": '"params","tokens","loss"\n' + "".join(f'"{n}","{d}","{loss}"\n' for n, d, loss in ROWS),
    "latin.csv": PLAIN.replace("loss", "loss,note").replace("3.5", "3.5,r\u00e9sum\u00e9").encode("latin-1"),
    "short_rows.csv": PLAIN.replace("loss", "loss,note"),
    "lines.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "array.json": json.dumps(RECORDS, indent=1),
    "array_named_csv.csv": json.dumps(RECORDS),
    "quoted_numbers.json": json.dumps([{name: str(value) for name, value in row.items()} for row in RECORDS]),
    "columns.json": json.dumps(BY_COLUMN),
    "pandas_default.json": json.dumps({name: dict(enumerate(column)) for name, column in BY_COLUMN.items()}),
    "pandas_split.json": json.dumps({"columns": HEADER, "index": [0, 1, 2], "data": ROWS}),
    "pandas_table.json": json.dumps({"schema": {"fields": []}, "data": RECORDS}),
    "rows_under_a_key.json": json.dumps({"experiment": "x", "rows": RECORDS}),
    "arrays.json": json.dumps([HEADER, *ROWS]),
    "table.parquet": parquet(BY_COLUMN),
    "texts.parquet": parquet({name: list(map(str, column)) for name, column in BY_COLUMN.items()}),
    "nested_column.parquet": parquet({**BY_COLUMN, "config": [{"a": 1}, {"a": 2}, None]}),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_every_form_gives_the_same_numbers(tmp_path, name):
    table = read_table(write(tmp_path, READ[name], name))
    for column, values in BY_COLUMN.items():
        np.testing.assert_array_equal(table.columns[column], values)
    assert not [warning for warning in table.warnings if "differ in" in warning]


def workbook():
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return sink.getvalue()


NAMED = {
    "book.xlsx": (workbook(), "save the sheet as CSV"),
    "book.xls": (b"\xd0\xcf\x11\xe0" + bytes(600), "save the sheet as CSV"),
    "table.csv.xz": (b"\xfd7zXZ\x00\x00", "xz; decompress it"),
    "table.feather": (b"ARROW1\x00\x00" + bytes(20), "write it as parquet or CSV"),
    "damaged.parquet": (b"PAR1" + bytes(50), "damaged parquet file"),
    "page.html": ("<!DOCTYPE html><html></html>", "a web page"),
    "no_header.csv": ("1e7,5e8,3.5\n3e7,5e8,3.25\n", "the first row is numbers"),
    "no_header_but_names.csv": ("r0,10M,5e8,3.5\nr1,3e7,5e8,3.25\n", "the first row is numbers"),
    "header_only.csv": ("params,tokens,loss\n", "no rows"),
    "one_row.csv": ("params,tokens,loss\n1e7,5e8,3.5\n", "only one row"),
    "comments_only.csv": ("# nothing\n# here\n", "no rows; only comments"),
    "twice.csv": (PLAIN.replace("loss", "loss,loss").replace("3.5", "3.5,3.6"), "column loss appears more than once"),
    "other_names.csv": (PLAIN.replace("params", "N").replace("loss", "Val Loss"),
                        "--column params=N --column loss='Val Loss'"),
    "unquoted.csv": ("params,tokens,loss\n1e7,5e8,3,5\n3e7,5e8,3,25\n", "row 1 has 4 cells, the header 3 (a comma"),
    "ambiguous.csv": ('params,tokens,loss\n1e7,5e8,"3,512"\n3e7,5e8,"3,251"\n', "may be a decimal comma or thousands"),
    "word.csv": (PLAIN.replace("3e7", "large"), "column params: 'large' is not a number; read are 10000000, 1e7"),
    "billions_of_loss.csv": (PLAIN.replace("3.25", "3.25B"), "row 2, column loss: '3.25B' is not a number"),
    "grouped_wrongly.csv": (PLAIN.replace("3e7", '"30,00,000"'), "'30,00,000' is not a number"),
    "number.json": ("5", "no table; JSON is read as"),
    "broken.json": ("[{", "not JSON"),
    "uneven.json": (json.dumps({**BY_COLUMN, "loss": [1.0]}), "no table; JSON is read as"),
    "crashed.csv": (PLAIN.replace("3.25", "crashed"), "row 2, column loss: 'crashed' is not a number; --drop-missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_every_other_form_is_named_in_a_line(tmp_path, name):
    content, said = NAMED[name]
    path = write(tmp_path, content, name)
    with pytest.raises(BadInput) as caught:
        read_table(path)
    message = str(caught.value)
    assert said in message
    assert str(path) in message
    assert "\n" not in message


def test_a_pipe_is_no_table(tmp_path):
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    with pytest.raises(BadInput, match="not a regular file"):
        read_table(path)


@pytest.mark.parametrize("cell", ["", "NaN", "NA", "null", "-", "crashed", "inf", "n/a", "None", "#N/A", " "])
def test_rows_that_say_nothing_are_left_out_where_asked(tmp_path, cell):
    path = write(tmp_path, PLAIN + f"2e9,4e10,{cell}\n")
    with pytest.raises(BadInput, match=r"row 4, column loss: .*--drop-missing leaves such rows out"):
        read_table(path)
    table = read_table(path, reading=TableReading(drop_missing=True))
    assert table.rows == 3
    (warning,) = table.warnings
    assert warning.startswith("1 of 4 rows left out by --drop-missing (row 4: loss is ")
    assert table.row_numbers.tolist() == [1, 2, 3]


def test_a_null_of_json_is_left_out_where_asked(tmp_path):
    rows = [*RECORDS, {**RECORDS[0], "loss": None}, {"params": 1e7, "tokens": 1e9}]
    table = read_table(write(tmp_path, json.dumps(rows), "t.json"), reading=TableReading(drop_missing=True))
    assert table.rows == 3
    assert "2 of 5 rows" in table.warnings[0]


def test_dropping_missing_rows_drops_no_mistake(tmp_path):
    path = write(tmp_path, PLAIN + "2e9,4e10,3.1x\n")
    with pytest.raises(BadInput, match=r"row 4, column loss: '3\.1x' is not a number"):
        read_table(path, reading=TableReading(drop_missing=True))


def test_a_column_that_is_not_read_refuses_no_table(tmp_path):
    path = write(
        tmp_path, PLAIN.replace("\n", ",x,-1,,n/a\n").replace("loss,x,-1,,n/a", "loss,flops,depth,weight,seed")
    )
    table = read_table(path, optional=())
    assert list(table.columns) == list(HEADER)
    spare = read_table(
        path, optional=("flops", "seed"), reading=TableReading(spare=frozenset({"flops", "seed"}))
    )
    assert list(spare.columns) == list(HEADER)
    (warning,) = spare.warnings  # of an empty column nothing is said
    assert warning.startswith("column flops was left out: row 1, column flops: 'x' is not a number")
    with pytest.raises(BadInput, match="column flops"):
        read_table(path, optional=("flops",))


def test_the_best_of_each_is_kept_whatever_the_column_holds(tmp_path):
    path = write(
        tmp_path, "size,params,tokens,loss\na,1e7,1e9,3.0\na,1e7,1e9,2.9\nb,2e7,1e9,2.8\nb,2e7,1e9,2.85\n"
    )
    for names in (("params", "tokens"), ("size",)):
        table = read_table(path, reading=TableReading(best_of=names))
        assert table.columns["loss"].tolist() == [2.9, 2.8]
        assert table.row_numbers.tolist() == [2, 3]
    with pytest.raises(BadInput, match="no column shape"):
        read_table(path, reading=TableReading(best_of=("shape",)))


@pytest.mark.parametrize(
    ("extra", "warned"),
    [
        ("lr", True),  # a setting
        ("seed", False),
        ("replicate", False),
    ],
)
def test_settings_and_repeats_are_told_apart(tmp_path, extra, warned):
    rows = [
        f"{n},{d},{3.0 + 0.01 * k},{k},{0.1234 * k + n + d}"
        for n in (1e7, 2e7, 4e7)
        for d in (1e9, 2e9)
        for k in (1, 2)
    ]
    path = write(tmp_path, f"params,tokens,loss,{extra},seconds\n" + "\n".join(rows))
    warnings = read_table(path).warnings
    assert any(f"differ in {extra}:" in warning for warning in warnings) == warned


def test_a_random_search_is_a_spread_over_settings(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        f"{n},1e9,{rng.uniform(3, 3.1)},{rng.uniform(1e-4, 1e-2)},{rng.uniform()}"
        for n in (1e7, 2e7)
        for _ in range(9)
    ]
    warnings = read_table(write(tmp_path, "params,tokens,loss,weight_decay,hours\n" + "\n".join(rows))).warnings
    assert any("differ in weight_decay:" in warning for warning in warnings)


def test_flags_of_columns():
    assert TableFlags(("loss=val_loss", "params=N")).reading().rename == {"loss": "val_loss", "params": "N"}
    with pytest.raises(BadInput, match="loss is read from a already"):
        TableFlags(("loss=a", "loss=b")).reading()
    with pytest.raises(BadInput, match="must be NAME=VALUE"):
        TableFlags(("loss",)).reading()
    assert RunTableFlags(best_of=("params,tokens",)).reading().best_of == ("params", "tokens")
    kept = RunTableFlags(("loss=L",), True, ("params",)).reading()
    assert TableReading.from_json(json.loads(json.dumps(kept.to_json()))) == kept
    assert TableReading.from_json({}) == TableReading()
