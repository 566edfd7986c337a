"""Task definitions of lm-evaluation-harness: prompts by hand, scores by the chain rule, what is refused."""

import csv
import json
import math

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from core.errors import BadInput
from data.tasks.registry import load
from data.tokenizers import ByteTokenizer
from tests.training.test_evaluate import Bigram
from training.evaluate.score import prepare_task, score_items, summarize

DOCUMENTS = [
    {"question": "ab", "options": ["a", "b", "cd"], "label": 1},
    {"question": "ba", "options": ["d", "ca", "b"], "label": 0},
    {"question": "cc", "options": ["ab", "ba", "d"], "label": 2},
]
CHOICE = """
task: letters
dataset_path: {format}
dataset_kwargs:
  data_files:
    test: {files}
    train: shown.json
output_type: multiple_choice
test_split: test
fewshot_split: train
num_fewshot: {shots}
description: "d:"
doc_to_text: "{{{{question|upper}}}}>"
doc_to_choice: options
doc_to_target: label
fewshot_delimiter: "\\n"
metric_list:
  - metric: acc
"""


def write(folder, kind="json", shots=0):
    """A multiple-choice definition with its documents in a file of one kind."""
    (folder / "shown.json").write_text(json.dumps(DOCUMENTS[::-1]))
    name = f"documents.{kind}"
    table = pyarrow.Table.from_pylist(DOCUMENTS)
    if kind == "json":
        (folder / name).write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    elif kind == "parquet":
        pyarrow.parquet.write_table(table, folder / name)
    elif kind == "arrow":
        with (
            pyarrow.OSFile(str(folder / name), "wb") as sink,
            pyarrow.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table)
    (folder / "task.yaml").write_text(CHOICE.format(format=kind, files=name, shots=shots))
    return f"lm-eval:{folder}/task.yaml"


@pytest.mark.parametrize("kind", ["json", "parquet", "arrow"])
def test_documents_on_disk_become_problems(tmp_path, kind):
    task = load(write(tmp_path, kind))
    items = task.items(500)
    assert [item.prompt for item in items] == ["d:AB>", "d:BA>", "d:CC>"]
    assert [item.target for item in items] == [" b", " d", " d"]
    assert items[0].distractors == (" a", " cd")
    assert task.guess == pytest.approx(1 / 3)
    assert load(task.name) == task


def test_solved_examples_stand_before_the_problem(tmp_path):
    (first, *_) = load(write(tmp_path, shots=2)).items(1)
    assert first.prompt == "d:CC> d\nBA> d\nAB>"


def test_generation_from_csv_with_an_included_file(tmp_path):
    with (tmp_path / "sums.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["left", "right", "sum"])
        writer.writeheader()
        writer.writerows({"left": n, "right": 1, "sum": n + 1} for n in range(3))
    (tmp_path / "base.yaml").write_text(
        "dataset_path: csv\ndataset_kwargs: {data_files: {test: [sums.csv]}}\ntest_split: test\n"
        "doc_to_text: '{{left}}+{{right}}='\ndoc_to_target: sum\ntarget_delimiter: ''\n"
    )
    own = tmp_path / "own.yaml"
    own.write_text(
        "include: base.yaml\noutput_type: generate_until\ngeneration_kwargs: {until: ['\\n']}\n".replace(
            "'\\n'", '"\\n"'
        )
    )
    assert [(item.prompt, item.target, item.distractors) for item in load(f"lm-eval:{own}").items(2)] == [
        ("0+1=", "1\n", ()),
        ("1+1=", "2\n", ()),
    ]
    own.write_text("include: base.yaml\noutput_type: loglikelihood\n")
    assert load(f"lm-eval:{own}").items(1)[0].target == "1"


def test_a_definition_is_scored_as_the_chain_rule_says(tmp_path):
    model, task = Bigram(), load(write(tmp_path))
    model.table_VV = np.random.default_rng(0).dirichlet(np.ones(256), 256)
    prepared = prepare_task(task, 3, ByteTokenizer(), 64)
    (scores,) = score_items([prepared], model, context=64, vocabulary=256)
    for index, document in enumerate(DOCUMENTS):
        prompt = f"d:{document['question'].upper()}>"
        p = [model.probability(prompt, f" {choice}") for choice in document["options"]]
        assert scores.choice_accuracy[index] == (max(p) == p[document["label"]])
        assert scores.nll[index] == pytest.approx(-math.log(p[document["label"]]), rel=1e-9)
    assert summarize(prepared, scores)["choice_chance"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "doc_to_text:",
            "process_docs: !function utils.process\ndoc_to_text:",
            "line 13: !function utils.process would run",
        ),
        ("doc_to_text:", "filter_list: []\ndoc_to_text:", "key 'filter_list' is not supported"),
        ("multiple_choice", "generate_all", "output_type='generate_all': must be one of"),
        ("dataset_path: json", "dataset_path: allenai/arc", "dataset_path='allenai/arc': must be one of json"),
        ("documents.json", "none.json", "none.json: not readable as json (No such file"),
        (
            "test_split: test",
            "test_split: validation",
            "split 'validation' has no data_files; there are test, train",
        ),
        ("question|upper", "answer|upper", "document 0: doc_to_text: template"),
        ("question|upper", "question.__class__.__mro__", "document 0: doc_to_text: template"),
        (
            "doc_to_target: label",
            "doc_to_target: '7'",
            "document 0: doc_to_target=7: must be one of the choices",
        ),
        ("doc_to_choice: options", "doc_to_choice: question", "doc_to_choice='ab': must give a list"),
        ("doc_to_choice: options", "doc_to_choice: [a, a]", "choices must differ"),
        ("num_fewshot: 0", "num_fewshot: 9", "num_fewshot=9: split 'train' has 3 documents"),
        ("task: letters", "task: [", "not YAML"),
        ("task: letters", "include: task.yaml", "includes itself"),
        ("task: letters", "task: !!python/object/apply:os.system [id]", "not YAML"),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_one_line(tmp_path, old, new, words):
    name = write(tmp_path)
    path = tmp_path / "task.yaml"
    changed = path.read_text().replace(old, new)
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(BadInput) as refused:
        load(name)
    assert words in str(refused.value) and "\n" not in str(refused.value)
