"""Tables: what is read is what was written; every mistake is named in one line."""

import gzip
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.logs.read import read_table
from analysis.logs.table import Table, constant_columns, suspicions
from core.errors import BadInput

GOOD = "params,tokens,loss\n1e6,2e7,3.5\n2e6,2e7,3.25\n4e6,8e7,2.75\n"


def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path, **options):
    with pytest.raises(BadInput) as caught:
        read_table(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_csv_values_hash_and_order(tmp_path):
    path = write(tmp_path, GOOD)
    table = read_table(path)
    assert isinstance(table, Table)
    assert table.rows == 3
    assert table.path == str(path)
    assert table.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert list(table.columns) == ["params", "tokens", "loss"]
    np.testing.assert_array_equal(table.columns["params"], [1e6, 2e6, 4e6])
    np.testing.assert_array_equal(table.columns["loss"], [3.5, 3.25, 2.75])
    assert table.columns["loss"].dtype == np.float64
    assert table.warnings == ()
    assert table.source() == {"path": str(path), "sha256": table.sha256, "rows": 3}


def test_optional_columns_are_taken_and_others_left(tmp_path):
    path = write(tmp_path, "run,params,tokens,loss,note,seed\na,1e6,2e7,3.5,x,0\nb,2e6,2e7,3.2,,1\n")
    table = read_table(path)
    assert set(table.columns) == {"params", "tokens", "loss", "run", "seed"}
    assert table.columns["run"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(table.columns["seed"], [0.0, 1.0])


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_same_table_in_every_dress(tmp_path, ending):
    plain = read_table(write(tmp_path, GOOD)).columns
    rows = [line.split(",") for line in GOOD.split()[1:]]
    objects = [{"params": float(n), "tokens": float(d), "loss": float(loss)} for n, d, loss in rows]
    dresses = {
        "crlf.csv": GOOD.replace("\n", ending).encode(),
        "bom.csv": b"\xef\xbb\xbf" + GOOD.encode(),
        "tabs.tsv": GOOD.replace(",", "\t").encode(),
        "spaces.csv": GOOD.replace(",", " , ").encode(),
        "blank.csv": ("\n" + GOOD + "\n\n").encode(),
        "zipped.csv.gz": gzip.compress(GOOD.encode()),
        "lines.jsonl": "\n".join(map(json.dumps, objects)).encode(),
        "lines.jsonl.gz": gzip.compress("\n".join(map(json.dumps, objects)).encode()),
        "lines_without_suffix": ("\n".join(map(json.dumps, objects)) + "\n\n").encode(),
    }
    for name, payload in dresses.items():
        columns = read_table(write(tmp_path, payload, name)).columns
        for column, values in plain.items():
            np.testing.assert_array_equal(columns[column], values, err_msg=name)


def test_rename_takes_the_named_column_even_where_the_name_is_taken(tmp_path):
    path = write(tmp_path, "N,tokens,loss,val_loss\n1e6,1e7,9,3.5\n2e6,1e7,9,3.4\n")
    columns = read_table(path, rename={"N": "params", "val_loss": "loss"}).columns
    np.testing.assert_array_equal(columns["loss"], [3.5, 3.4])
    assert "no column M to read as params; it has N, tokens" in refusal(path, rename={"M": "params"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        ("params,tokens,loss\n", "no rows"),
        ("params,tokens,loss\n1e6,2e7,3.5\n", "only one row"),
        ("params,loss\n1e6,3\n2e6,2\n", "no column tokens; it has params, loss"),
        ("params,tokens,loss,loss\n1e6,1e7,3,3\n2e6,1e7,2,1\n", "column loss appears more than once"),
        ("params,tokens,loss\n1e6,2e7,3.5\n1e6,many,3.5\n", "row 2, column tokens: 'many' is not a number"),
        ("params,tokens,loss\n1e6,2e7,3.5\n1e6,,3.5\n", "row 2, column tokens: is missing"),
        ("params,tokens,loss\n1e6,2e7,3.5\n1e6,2e7\n", "row 2, column loss: is missing"),
        ("params,tokens,loss\n1e6,2e7,nan\n1e6,2e7,3\n", "row 1, column loss: is NaN"),
        ("params,tokens,loss\n1e6,2e7,3\n1e6,2e7,inf\n", "row 2, column loss: inf is not finite"),
        ("params,tokens,loss\n0,2e7,3\n1e6,2e7,3\n", "row 1, column params: 0 must be positive"),
        ("params,tokens,loss\n1e6,-5,3\n1e6,2e7,3\n", "row 1, column tokens: -5 must be positive"),
        ("params,tokens,loss\n1e6,5,3\n1e6,2e7,-3\n", "row 2, column loss: -3 must be positive"),
        ("params,tokens,loss,weight\n1,5,3,-1\n1,2,3,1\n", "row 1, column weight: -1 must not be negative"),
        ("params,tokens,loss,weight\n1,5,3,0\n1,2,3,0\n", "column weight is zero in every row"),
        ("params,tokens,loss,flops\n1,5,3,0\n1,2,3,1\n", "row 1, column flops: 0 must be positive"),
        ("params,tokens,loss\n1,2,3,4,5\n1,2,3\n", "not a table"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a table"),
        (b"a\x00b,c\n1,2\n", "not a table (binary)"),
        (b"\x1f\x8bdamaged", "damaged gzip file"),
        ("just some words\nand more of them\n", "no column params, tokens, loss; it has just some words"),
    ],
)
def test_bad_csv_is_named(tmp_path, text, said):
    assert said in refusal(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"params":1}]', "no column tokens, loss; it has params"),
        ('{"params":1e6,"tokens":1e7,"loss":3}\n5\n', "line 2 is not a JSON object"),
        ('{"params":1e6,"tok\n{"params":1e6,"tokens":1e7,"loss":3}\n', "line 1 is not JSON"),
        ('{"params":1e6,"tok', "line 1 is not JSON"),
        ('{"params":1e6,"tokens":1e7,"loss":"three"}\n' * 2, "row 1, column loss: 'three' is not a number"),
        ('{"params":1e6,"tokens":1e7,"loss":true}\n' * 2, "row 1, column loss: True is not a number"),
        ('{"params":1e6,"tokens":1e7,"loss":null}\n' * 2, "row 1, column loss: is missing"),
        ('{"params":1e6,"tokens":1e7,"loss":NaN}\n' * 2, "row 1, column loss: is NaN"),
        ('{"params":1e6,"tokens":1e7,"loss":Infinity}\n' * 2, "row 1, column loss: inf is not finite"),
        ('{"params":1e6,"tokens":1e7,"loss":[1,2]}\n' * 2, "row 1, column loss: [1, 2] is not a number"),
        ('{"params":1e6,"tokens":1e7}\n' * 2, "no column loss; it has params, tokens"),
        ('{"params":1,"tokens":1,"loss":1%s}\n' % ("0" * 400) * 2, "row 1, column loss: inf is not finite"),
    ],
)
def test_bad_json_lines_are_named(tmp_path, text, said):
    assert said in refusal(write(tmp_path, text, "table.jsonl"))


def test_missing_and_unreadable_paths(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.csv")
    file = write(tmp_path, GOOD)
    assert "cannot be read" in refusal(file / "inside_a_file.csv")


def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path):
    whole = '{"params":1e6,"tokens":1e7,"loss":3}\n{"params":2e6,"tokens":2e7,"loss":2.5}\n'
    table = read_table(write(tmp_path, whole + '{"params":4e6,"tok', "table.jsonl"))
    assert table.rows == 2
    assert table.warnings == ("line 3 is torn (a write was cut short) and was left out",)


def columns(**values):
    return {name: np.asarray(value, float) for name, value in values.items()}


def test_units_that_look_wrong_are_warned_of():
    millions = columns(params=[70, 160, 410], tokens=[3e11] * 3, loss=[3, 2.8, 2.6])
    assert any(w.startswith("params is at most 410: is it in millions?") for w in suspicions(millions))
    billions = columns(params=[7e7, 1.6e8, 4e8], tokens=[300, 300, 300], loss=[3, 2.8, 2.6])
    assert any(w.startswith("tokens is at most 300: is it in billions?") for w in suspicions(billions))
    exaflops = columns(params=[7e7, 1.6e8], tokens=[1e9, 1e9], loss=[3, 2.8], flops=[0.42, 0.96])
    assert any("times 6 params tokens" in w for w in suspicions(exaflops))
    honest = columns(params=[7e7, 1.6e8], tokens=[1e9, 1e9], loss=[3, 2.8], flops=[4.2e17, 9.6e17])
    assert suspicions(honest) == ()


def test_copies_are_warned_of_and_seeds_are_not():
    copied = columns(params=[1e6, 1e6, 2e6], tokens=[1e7] * 3, loss=[3, 3, 2.5])
    assert any(w.startswith("1 row repeats another row exactly") for w in suspicions(copied))
    seeds = columns(params=[1e6, 1e6, 2e6], tokens=[1e7] * 3, loss=[3, 3.01, 2.5])
    assert suspicions(seeds) == ()


def test_loss_that_rises_with_size_is_warned_of():
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e10, 4)))
    falling = columns(params=n, tokens=d, loss=2 + 400 / n**0.34 + 400 / d**0.28)
    assert suspicions(falling) == ()
    rising = columns(params=n, tokens=d, loss=2 + 1e-3 * n**0.34 + 400 / d**0.28)
    (warning,) = suspicions(rising)
    assert warning.startswith("loss rises with params")


def test_constant_columns():
    table = columns(params=[1e6, 1e6], tokens=[1e7, 2e7], loss=[3, 2])
    assert constant_columns(table, ("params", "tokens", "absent")) == ("params",)


cells = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.integers(-5, 10**12).map(str),
    st.sampled_from(
        ["", " ", "1e6", "nan", "x", '"', "1,000", "1e999", "\N{GREEK SMALL LETTER ALPHA}", "\x00"]
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    header=st.lists(
        st.sampled_from(["params", "tokens", "loss", "flops", "run", "weight", "", "x"]), max_size=6
    ),
    rows=st.lists(st.lists(cells, max_size=7), max_size=6),
)
def test_any_text_is_read_whole_or_refused_in_a_line(tmp_path_factory, header, rows):
    path = tmp_path_factory.mktemp("any") / "table.csv"
    path.write_text("\n".join(",".join(row) for row in [header, *rows]))
    refused = None
    try:
        table = read_table(path)
    except BadInput as error:
        refused = str(error)
    if refused is not None:
        assert "\n" not in refused
        return
    assert table.rows >= 2
    for name, values in table.columns.items():
        assert values.shape == (table.rows,)
        if name != "run":
            assert np.isfinite(values).all()
