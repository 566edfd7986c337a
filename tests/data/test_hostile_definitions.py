"""Definitions and task files that are wrong in every key, too large, too deep or endless: one line, soon."""

import json
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from data.tasks.harness.keys import IGNORED, RULES
from data.tasks.harness.read import read_items
from data.tasks.registry import load

GOOD = {
    "task": "letters",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "documents.json"}},
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "{{q}}",
    "doc_to_choice": "options",
    "doc_to_target": "label",
}


def write(folder: Path, text: str = "", **changed: object) -> Path:
    rows = [{"q": f"ab{number}", "options": ["a", "b"], "label": number % 2} for number in range(3)]
    (folder / "documents.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changed}) + text, encoding="utf-8", errors="surrogatepass")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        load(f"lm-eval:{path}")
    message = str(caught.value)
    assert message.startswith("task lm-eval:") and "\n" not in message and len(message) < 1000
    return message


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.binary(max_size=4),
    st.sampled_from(["test", "documents.json", "/dev/zero", "task.yaml", "{{", "{% for %}", "{{ 10**(10**10) }}", "[1,",
                     "{{ q|regex_replace('(') }}", "\0", "generate_until", "csv", "parquet", "arrow", "label"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["test", "data_files", "until", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@pytest.mark.slow
@given(changed=st.dictionaries(st.sampled_from([*RULES, *IGNORED]), values, min_size=1, max_size=3))
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
def test_a_definition_is_read_or_refused_in_one_line(
    changed: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.getbasetemp(), **changed)
    try:
        assert read_items(path)
    except BadInput as error:
        said = str(error)
        if "\n" in said or len(said) >= 2000:
            pytest.fail(said)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"generation_kwargs": {"until": []}}, "generation_kwargs.until=[]: must be"),
        ({"generation_kwargs": {"until": 5}}, "generation_kwargs.until=5: must be"),
        ({"generation_kwargs": "text"}, "generation_kwargs='text': must be"),
        ({"test_split": ["a"]}, "test_split=['a']: must be"),
        ({"num_fewshot": True}, "num_fewshot=True: must be"),
        ({"doc_to_text": "{{ q|regex_replace('(') }}"}, "cannot be filled in (missing )"),
        ({"doc_to_text": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"}, "recursion"),
        ({"doc_to_text": "{{ 10 ** (10 ** 10) }}"}, "** gives too much"),
        ({"doc_to_text": "{{ 'a' * 10 ** 10 }}"}, "gives too much"),
        ({"doc_to_text": "{{ 'x'|center(10 ** 10) }}"}, "MemoryError"),
        ({"doc_to_text": "{{ 'x'|center(10 ** 7) }}"}, "gives more than"),
        ({"dataset_kwargs": {"data_files": {"test": "/dev/zero"}}}, "no regular file"),
        ({"include": "/dev/zero"}, "no regular file"),
    ],
)
def test_a_malformed_value_is_named(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    assert words in refusal(write(tmp_path, **changed))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("num_fewshot: !!int abc\n", "not YAML (invalid literal for int()"),
        ("description: 2020-99-99\n", "not YAML (month must be"),
        ("task: again\n", "key 'task' is given twice"),
        ("\tx: 1\n", "not YAML"),
        ("metadata: " + "[" * 20_000 + "\n", "recursion"),
        ("description: &a [*a]\n", "must be text"),
        ("---\ntask: b\n", "not YAML"),
    ],
)
def test_malformed_yaml_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(write(tmp_path, text))


def test_what_is_no_definition_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    for content in (b"", b"null", b"- a\n", bytes(range(256)), b"task: " + b"x" * 2**20):
        path.write_bytes(content)
        refusal(path)
    path.unlink()
    os.mkfifo(path)
    assert "no regular file" in refusal(path)
    assert "no regular file" in refusal(Path("/dev/zero"))


@pytest.mark.slow
def test_a_template_without_end_is_ended(tmp_path: Path) -> None:
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    assert "takes more than 2 seconds" in refusal(write(tmp_path, doc_to_text=loop))


@pytest.mark.long
def test_what_no_signal_ends_is_ended_by_the_system(tmp_path: Path) -> None:
    pattern = "{{ '" + "a" * 60 + "b'|regex_replace('(a+)+$') }}"
    assert "seconds" in refusal(write(tmp_path, doc_to_text=pattern))


SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"]


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_lines_end_at_newlines_only(tmp_path: Path, separator: str) -> None:
    own = tmp_path / "own.jsonl"
    row = {"prompt": f"a{separator}b ", "target": f"x{separator}", "choices": [f"x{separator}", "y"]}
    lines = json.dumps(row, ensure_ascii=separator < " ") + "\r\n"
    own.write_bytes((lines * 3).encode())
    assert [item.prompt for item in load(f"file:{own}").items(9)] == [f"a{separator}b "] * 3
    path = write(tmp_path)
    documents = [{"q": f"a{separator}b", "options": ["x", "y"], "label": 0}] * 2
    rows = "".join(json.dumps(row, ensure_ascii=separator < " ") + "\n" for row in documents)
    (tmp_path / "documents.json").write_bytes(rows.encode())
    assert [item.prompt for item in load(f"lm-eval:{path}").items(9)] == [f"a{separator}b"] * 2


@pytest.mark.parametrize("text", ["\ud800", "a\0b"], ids=ascii)
def test_what_no_text_can_be_is_refused(tmp_path: Path, text: str) -> None:
    own = tmp_path / "own.jsonl"
    for row in ({"prompt": text, "target": "x"}, {"prompt": "x", "target": text},
                {"prompt": "x", "target": "y", "choices": ["y", text]}):  # fmt: skip
        own.write_text(json.dumps(row) + "\n")
        with pytest.raises(
            BadInput, match=r"own\.jsonl line 1: .*must be text without NUL bytes and lone surrogates"
        ):
            load(f"file:{own}")
    path = write(tmp_path)
    (tmp_path / "documents.json").write_text(json.dumps({"q": text, "options": ["a", "b"], "label": 0}) + "\n")
    assert "document 0" in refusal(path)


def test_a_task_file_without_end_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in ("/dev/zero", f"{tmp_path}/pipe"):
        with pytest.raises(BadInput, match="no regular file"):
            load(f"file:{place}")
