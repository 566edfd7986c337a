"""lm-evaluation-harness in process: its numbers on a model that is known, and beside our own reader of its definitions.

`make test-harness` runs this in an environment that has the harness.
"""

import json
import math
import os
import re
import shutil

import numpy as np
import pytest

from core.codec import to_json
from core.errors import BadInput
from core.files import read_json, read_json_lines, write_json
from core.rundir import RunDirectory
from data.config import DataConfig
from data.tasks.registry import load as load_task
from data.tokenizers import ByteTokenizer
from model.config import ModelConfig
from tests.support.small import ROOT, cache_folder, write_corpus
from tests.support.table_model import TableModel
from training.evaluate import windows
from training.evaluate.score import prepare_task, score_items, summarize
from training.evaluate.text_model import TextModel
from training.execute import execute
from training.execution import Execution
from training.harness import OFFLINE, main
from training.load import load
from training.prepare import prepare
from training.spec import OptimConfig, RunSpec

os.environ.update(OFFLINE)  # before anything of the hub is imported
lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed; make test-harness has it")
pytestmark = pytest.mark.slow

DEFINITIONS = ROOT / "tests" / "training" / "inputs" / "lm_eval"
NAMES = sorted(path.stem for path in DEFINITIONS.glob("[a-z]*.yaml") if path.stem != "both")
# The harness's metric, ours, and what ours becomes.
SAME = {
    "acc": ("choice_accuracy", lambda value: value),
    "acc_norm": ("choice_accuracy_norm", lambda value: value),
    "exact_match": ("exact_match", lambda value: value),
    "perplexity": ("nll", math.exp),
    "bits_per_byte": ("nll_per_token", lambda value: value / math.log(2)),
    "byte_perplexity": ("nll_per_token", math.exp),
}


@pytest.fixture(scope="module", autouse=True)
def documents_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("documents"))
        yield


@pytest.fixture(scope="module")
def definitions(documents_cache):
    from training.evaluate import harness_tasks

    return harness_tasks.read(DEFINITIONS, (), None)


def scores_of(model: TextModel, definitions, names=NAMES):
    from training.evaluate import harness_tasks

    return harness_tasks.evaluate(model, definitions, names, None)


def ours(name: str, model: TextModel):
    prepared = prepare_task(
        load_task(f"lm-eval:{DEFINITIONS}/{name}.yaml"), 100, model.tokenizer, model.context
    )
    (scores,) = score_items([prepared], model.answer, context=model.context, vocabulary=model.vocabulary)
    return summarize(prepared, scores)


def test_there_are_ten_definitions_of_every_kind():
    assert len(NAMES) == 10
    text = "".join((DEFINITIONS / f"{name}.yaml").read_text() for name in NAMES)
    for words in (
        "multiple_choice",
        "generate_until",
        "loglikelihood\n",
        "loglikelihood_rolling",
        "num_fewshot",
    ):
        assert words in text


@pytest.mark.parametrize("seed", range(4))
def test_our_reader_and_the_harness_agree_on_ten_definitions(seed, definitions):
    likely = ("=33;", "=33\n", "=113", "t  xx;")[seed] + " m" * (seed % 2)
    model = TableModel(seed, likely).text_model(context=128)
    harness = scores_of(model, definitions)
    compared = 0
    for name in NAMES:
        mine = ours(name, model)
        for metric, score in harness[name].scores.items():
            own, becomes = SAME.get(metric, (None, None))
            if metric == "acc" and own not in mine:
                own = "exact_match"  # of loglikelihood: greedy decoding writes the target
            if own is None:
                continue
            value = mine[own]
            assert score.n == value.n
            # accuracies to the last bit; sums of logarithms are added in another order
            near = {"rel": 1e-12} if own.startswith("nll") else {"abs": 0}
            assert score.value == pytest.approx(becomes(value.value), **near), (name, metric)
            if own != "nll":
                scale = {"bits_per_byte": 1 / math.log(2), "byte_perplexity": score.value}.get(metric, 1)
                assert score.stderr == pytest.approx(scale * value.stderr, rel=1e-9)
            compared += 1
        chance = harness[name].scores["chance"].value
        assert chance == pytest.approx(mine["choice_chance"].value if "choice_chance" in mine else 0.0)
    assert compared == 17
    written = {name: harness[name].scores["exact_match"].value for name in ("written", "written_few_shot")}
    assert written == {"written": 0.2 * (seed == 0), "written_few_shot": 0.2 * (seed == 1)}


def test_a_uniform_model_has_eight_bits_a_byte_and_the_word_perplexity_of_its_letters(definitions):
    model = TableModel(uniform=True).text_model(context=16)
    scores = scores_of(model, definitions, ["whole_text", "last_word"])
    texts = [row["text"] for row in json.loads((DEFINITIONS / "words.json").read_text())]
    assert scores["whole_text"].scores["bits_per_byte"].value == 8.0
    letters = sum(len(text.encode()) for text in texts)
    words = sum(len(re.split(r"\s+", text)) for text in texts)
    logarithm = math.log(scores["whole_text"].scores["word_perplexity"].value)
    assert logarithm == pytest.approx(letters / words * math.log(256), rel=1e-12)
    assert scores["whole_text"].scores["byte_perplexity"].value == pytest.approx(256, rel=1e-12)
    assert scores["whole_text"].scores["bits_per_byte"].stderr == pytest.approx(0, abs=1e-12)
    last = [
        len(f" {row['last'].strip()}".encode()) for row in json.loads((DEFINITIONS / "words.json").read_text())
    ]
    mean = sum(last) / len(last) * math.log(256)
    assert scores["last_word"].scores["perplexity"].value == pytest.approx(math.exp(mean), rel=1e-12)


@pytest.mark.parametrize("context", [1, 2, 5, 16])
def test_windows_are_those_of_the_harness(context):
    from lm_eval.utils import get_rolling_token_windows

    for length in range(1, 40):
        tokens = list(range(1, length + 1))
        theirs = [[*before, after[-1]] for before, after in get_rolling_token_windows(tokens, 0, context, 1)]
        predicted = [len(after) for _, after in get_rolling_token_windows(tokens, 0, context, 1)]
        cut = list(windows.rolling(tokens, 0, context))
        assert [window.tokens.tolist() for window in cut] == theirs
        assert [len(window.tokens) - window.start for window in cut] == predicted


def test_a_group_is_the_mean_of_its_tasks(definitions):
    scores = scores_of(TableModel(7).text_model(), definitions, ["sums"])
    own = [scores[name].scores["acc"] for name in ("choice", "choice_template")]
    group = scores["sums"].scores["acc"]
    assert group.value == pytest.approx(np.mean([score.value for score in own]))
    assert group.n == 10
    assert group.stderr == pytest.approx(math.hypot(*(score.stderr for score in own)) / 2)
    together = [*scores["choice"].columns["acc"], *scores["choice_template"].columns["acc"]]
    assert group.value == pytest.approx(np.mean(together))


def test_a_perplexity_has_the_standard_error_of_its_logarithm():
    from lm_eval.api import metrics

    from training.evaluate.harness_tasks import standard_error

    chance = np.random.default_rng(0)
    logs = -chance.gamma(4, 1, 400)
    counts = chance.integers(1, 9, 400)
    pairs = [(log * count, count) for log, count in zip(logs, counts, strict=True)]
    for aggregate, values in ((metrics.perplexity, list(logs)), (metrics.bits_per_byte, pairs)):
        draws = chance.integers(0, 400, (2000, 400))
        spread = np.std([aggregate([values[place] for place in row]) for row in draws])
        assert standard_error(aggregate, values, 0) == pytest.approx(spread, rel=0.1)
    binary = [(int(one), int(other)) for one, other in chance.integers(0, 2, (60, 2))]
    assert 0.05 < standard_error(metrics.f1_score, binary, 0) < 0.1
    assert standard_error(metrics.mean, [1.0], 0) == 0.0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(sweep, cache): a byte run, a BPE run, and one that never started."""
    folder = tmp_path_factory.mktemp("harness")
    corpus, cache = write_corpus(folder / "corpus", documents=200), cache_folder(folder)
    for kind, seed in (("byte", 0), ("bpe:300", 0), ("byte", 1)):
        spec = RunSpec(
            model=ModelConfig(
                vocabulary=256 if kind == "byte" else 320, width=16, depth=1, heads=2, kv_heads=1
            ),
            data=DataConfig(corpus=f"text:{corpus}", tokenizer=kind, sequence_length=64, validation_tokens=512),
            optim=OptimConfig(learning_rate=1e-2),
            tokens=16_384,
            batch_tokens=1024,
            seed=seed,
        )
        directory = folder / "sweep" / spec.run_id
        write_json(directory / "spec.json", to_json(spec))
        if seed == 0:
            prepare([spec], cache, progress=False)
            (outcome,) = execute([directory], Execution(cache_root=cache)).values()
            assert outcome.status == 0, outcome.message
    return folder / "sweep", cache


def call(sweep, cache, *flags):
    return main([str(sweep), "--tasks", str(DEFINITIONS), "--cache", str(cache), *flags])


def test_a_sweep_is_scored_once_and_its_rows_are_sealed(trained, tmp_path, capsys):
    sweep, cache = tmp_path / "sweep", trained[1]
    shutil.copytree(trained[0], sweep)
    flags = ("--include", "sums", "whole_text", "written", "last_word")
    assert call(sweep, cache, *flags) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-1].endswith("12 scored, 0 already there, 1 runs not complete, 0 failed")
    done = sorted(path.parent for path in sweep.glob("*/result.json"))
    for run in done:
        rows = list(read_json_lines(run / "evals.jsonl"))
        found = {row["name"]: row for row in rows if row["name"].startswith("lm-eval/")}
        assert {"lm-eval/sums/acc", "lm-eval/choice/acc_norm", "lm-eval/whole_text/bits_per_byte"} <= set(found)
        assert {row["tokens"] for row in found.values()} == {16_384}
        assert found["lm-eval/choice/acc"]["n"] == 5 and found["lm-eval/choice/acc"]["stderr"] > 0
        tasks = read_json(run / "tasks.json")
        assert tasks["lm-eval/choice"]["chance"] == pytest.approx(1 / 3)
        assert tasks["lm-eval/choice"]["overlap"]["items_found"] == 0
        items = {row["task"]: row for row in read_json_lines(run / "task_items.jsonl")}
        assert items["lm-eval/choice"]["fingerprint"] == tasks["lm-eval/choice"]["fingerprint"]
        assert np.mean(items["lm-eval/choice"]["acc"]) == pytest.approx(
            found["lm-eval/choice"[:14] + "/acc"]["value"]
        )
        assert RunDirectory(run).is_intact("evals.jsonl") and RunDirectory(run).is_intact("task_items.jsonl")
    before = {path: path.read_bytes() for path in sweep.glob("*/*.json*")}
    assert call(sweep, cache, *flags) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith("0 scored, 12 already there, 1 runs not complete, 0 failed")
    )
    assert {path: path.read_bytes() for path in sweep.glob("*/*.json*")} == before
    assert call(done[0], cache, "--include", "choice", "--limit", "3") == 0  # other documents: scored again
    assert read_json(done[0] / "tasks.json")["lm-eval/choice"]["items"] == 3
    assert not (cache / "lm-eval").exists() or not list((cache / "lm-eval").iterdir())


def test_a_trained_run_is_scored_by_the_harness_as_by_us(trained, definitions):
    """The model's own logits and decoder. With BPE the tokens of an answer differ, as the guide says."""
    sweep, cache = trained
    for path in sorted(path.parent for path in sweep.glob("*/result.json")):
        model = TextModel.of(load(path, cache=cache))
        harness = scores_of(model, definitions)
        is_byte = isinstance(model.tokenizer, ByteTokenizer)
        same = []
        for name in NAMES:
            mine = ours(name, model) if is_byte else {}
            for metric in ("acc", "exact_match", "bits_per_byte", "perplexity"):
                own, becomes = SAME[metric]
                if metric in harness[name].scores and own in mine:
                    same.append(harness[name].scores[metric].value)
                    assert same[-1] == pytest.approx(becomes(mine[own].value), rel=1e-5), (name, metric)
        assert len(same) == (10 if is_byte else 0)
        assert 0 < harness["whole_text"].scores["bits_per_byte"].value < 12


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("task: [", "broken.yaml: "),
        ("task: broken\ndataset_path: json\n", "task broken: "),
        (
            "task: broken\ninclude: _sums.yaml\noutput_type: multiple_choice\ndoc_to_text: sum\n"
            "doc_to_choice: '{{nothing}}'\ndoc_to_target: label\n",
            "task broken: ",
        ),
        (
            "task: broken\ninclude: _sums.yaml\noutput_type: generate_until\ndoc_to_text: sum\ndoc_to_target: sum\n"
            "generation_kwargs: {num_beams: 4, until: [';']}\nmetric_list: [{metric: exact_match}]\n",
            "generation_kwargs.num_beams=4",
        ),
        (
            "task: broken\ninclude: _sums.yaml\noutput_type: generate_until\ndoc_to_text: sum\ndoc_to_target: sum\n"
            "metric_list: [{metric: no_such_metric}]\n",
            "task broken: KeyError",
        ),
        (
            "task: broken\ndataset_path: nobody/nothing\ntest_split: test\ndoc_to_text: a\ndoc_to_target: b\n",
            "task broken: ",
        ),
    ],
)
def test_a_definition_that_cannot_be_used_is_refused_in_one_line(trained, content, words, tmp_path, capsys):
    sweep, cache = trained
    for name in ("_sums.yaml", "sums.jsonl", "shown.jsonl"):
        shutil.copy(DEFINITIONS / name, tmp_path)
    (tmp_path / "broken.yaml").write_text(content)
    before = {path: path.read_bytes() for path in sweep.glob("*/*.json*")}
    with pytest.raises(SystemExit) as ended:
        main([str(sweep), "--tasks", str(tmp_path), "--cache", str(cache)])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert ended.value.code == 2 and len(said) == 1 and words in said[0]
    assert {path: path.read_bytes() for path in sweep.glob("*/*.json*")} == before


def test_unknown_names_and_folders_are_refused(trained, tmp_path, capsys):
    sweep, cache = trained
    for flags, words in (
        (("--include", "choise"), "--include=choise, did you mean choice?"),
        (("--tasks", str(tmp_path / "none")), "no such folder"),
        (("--tasks", str(tmp_path)), "no definition in it"),
        (("--limit", "0"), "--limit"),
    ):
        with pytest.raises(SystemExit) as ended:
            call(sweep, cache, *flags)
        assert ended.value.code == 2 and words in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        call(tmp_path, cache)
    assert ended.value.code == 2 and "neither a run nor a sweep" in capsys.readouterr().err
    with pytest.raises(BadInput, match="must have from 1"):
        TableModel().text_model(context=4).loglikelihood([([0], list(range(9)))])
