"""A trained run, read back: the same weights, its own tokenizer, text from its command, and what is refused."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import launch
from core.codec import to_json
from core.errors import BadInput
from core.files import write_json
from core.rundir import RunDirectory
from data.cache import open_or_build
from data.config import DataConfig
from data.tasks import registry
from model.config import ModelConfig
from tests.support.small import cache_folder, write_corpus
from training.evaluate.loss import held_out
from training.evaluate.score import METRICS, ScoredSequence, make_task_step, prepare_task, score_items
from training.execute import execute
from training.execution import Execution
from training.load import load
from training.prepare import prepare
from training.spec import OptimConfig, RunSpec

pytestmark = pytest.mark.slow

KINDS = ("byte", "char", "bpe:300")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run directories by tokenizer, and the cache."""
    folder = tmp_path_factory.mktemp("load")
    corpus, cache = write_corpus(folder / "corpus", documents=200), cache_folder(folder)
    found = {}
    for kind in KINDS:
        spec = RunSpec(
            model=ModelConfig(
                vocabulary=256 if kind == "byte" else 320, width=16, depth=1, heads=2, kv_heads=1
            ),
            data=DataConfig(corpus=f"text:{corpus}", tokenizer=kind, sequence_length=32, validation_tokens=512),
            optim=OptimConfig(learning_rate=1e-2),
            tokens=16_384,
            batch_tokens=1024,
        )
        prepare([spec], cache, progress=False)
        directory = folder / "sweep" / spec.run_id
        directory.mkdir(parents=True)
        write_json(directory / "spec.json", to_json(spec))
        found[kind] = directory
        (outcome,) = execute([directory], Execution(cache_root=cache)).values()
        assert outcome.status == 0, outcome.message
    return found, cache


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_keeps_its_tokenizer_and_its_model_reads_the_held_out_text_as_it_did(runs, kind, tmp_path):
    found, cache = runs
    model = load(found[kind], cache=tmp_path / "no cache")
    assert (found[kind] / "tokenizer.json").exists() == (kind != "byte")
    slice_ = held_out(open_or_build(model.spec.data, cache), model.spec.data, 4)
    total = count = 0.0
    for tokens, weights in slice_.batches:
        logprobs = jax.nn.log_softmax(model.logits(tokens[:, :-1]), axis=-1)
        nll = -np.take_along_axis(np.asarray(logprobs, np.float64), tokens[:, 1:, None], axis=-1)[..., 0]
        total, count = total + (nll * weights).sum(), count + weights.sum()
    logged = json.loads((found[kind] / "result.json").read_text())["evals"]["val/loss"]
    assert total / count == pytest.approx(logged, rel=1e-5)
    text = model.tokenizer.decode(slice_.batches[0][0][0, 1:].tolist()).replace("\0", "")
    logprobs = model.logprobs(text)
    assert len(logprobs) == len(model.tokens(text)) - 1 and (logprobs < 0).all()
    (greedy,) = model.sample(text[:9], max_tokens=20, temperature=0)
    ids = np.concatenate([model.tokens(text[:9]), greedy.generated.tokens])
    likeliest = np.argmax(model.logits(ids[None, :-1])[0], axis=-1)[len(model.tokens(text[:9])) - 1 :]
    np.testing.assert_array_equal(likeliest, greedy.generated.tokens)


def test_greedy_text_is_what_teacher_forcing_calls_an_exact_match(runs):
    """On every family of tasks: with the model's own text as the answer an item is right, with another it is not."""
    found, _ = runs
    model = load(found["byte"])
    step = make_task_step(model.config, model.mesh)

    def answer(*batch):
        return step(model.params, *batch)

    heads = []
    for name in registry.families():
        task = prepare_task(registry.load(name), 4, model.tokenizer, 512)
        heads += [
            (task, sequences[0].tokens[: sequences[0].start], sequences[0]) for sequences in task.problems
        ]
    assert len({task.task.name for task, _, _ in heads}) > 12
    texts = [model.tokenizer.decode(head[1:].tolist()) for _, head, _ in heads]
    written = model.sample(texts, max_tokens=5, temperature=0)
    for right in (True, False):
        prepared = []
        for (task, head, _), one in zip(heads, written, strict=True):
            target = one.generated.tokens.copy()
            if not len(target):
                continue
            target[-1] = target[-1] if right else (target[-1] + 1) % 256
            sequence = ScoredSequence(np.concatenate([head, target]).astype(np.int32), len(head))
            prepared.append(dataclasses.replace(task, problems=((sequence,),), choices=(1,)))
        scores = score_items(prepared, answer, context=512, vocabulary=model.config.vocabulary)
        wrong = [
            (one.task.name, one.problems[0][0].tokens.tolist())
            for one, score in zip(prepared, scores, strict=True)
            if score.exact_match[0] != right
        ]
        assert not wrong
    assert "exact_match" in METRICS


def test_the_command_writes_the_same_each_time(runs, capsys):
    found, cache = runs
    command = [
        "sample",
        str(found["bpe:300"]),
        "--prompt",
        "the",
        "a b",
        "--samples",
        "2",
        "--max-tokens",
        "12",
    ]
    command += ["--seed", "7", "--top-p", "0.9", "--cache", str(cache)]
    assert launch.main(command) == 0
    first = capsys.readouterr()
    assert launch.main([*command, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in rows] == ["the", "the", "a b", "a b"]
    assert rows[0]["text"] != rows[1]["text"]
    for row in rows:
        assert f"{row['prompt']}{row['text']}\n" in first.out
    assert launch.main([*command, "--verbose", "--max-tokens", "40"]) == 0
    said = capsys.readouterr()
    assert "removed" in said.out and "their share" in said.out and "ended by" in said.out
    assert "of keys and values" in said.err
    assert "the model was trained on 32" in said.err


def test_two_files_of_a_run_write_what_the_command_writes(runs, tmp_path, capsys):
    found, cache = runs
    for kind in KINDS:
        out = tmp_path / kind.partition(":")[0]
        export = ["export", str(found[kind]), "--format", "two-files", "--out", str(out), "--cache", str(cache)]
        assert launch.main(export) == 0
        capsys.readouterr()
        asked = ["--prompt", "the law", "a", "--max-tokens", "30", "--temperature", "0"]
        assert launch.main(["sample", str(found[kind]), *asked, "--cache", str(cache)]) == 0
        expected = capsys.readouterr().out
        done = subprocess.run(
            [sys.executable, "-I", out / "run.py", *asked],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == expected
        assert sorted(file.name for file in out.iterdir()) == ["model.npz", "run.py"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere: no such run directory"),
        (["RUN", "--temperature", "-1"], "temperature"),
        (["RUN", "--max-tokens", "0"], "max-tokens"),
        (["RUN", "--top-p", "2"], "top-p"),
        (["RUN", "--penalty-counts", "some"], "penalty-counts"),
        (["RUN", "--stop", ""], "stop=''"),
        (["RUN", "--tokens", "5"], "no checkpoint at 5 tokens; there are those at 16384 tokens"),
    ],
)
def test_bad_input_is_one_line(runs, capsys, arguments, told):
    found, cache = runs
    given = [str(found["byte"]) if one == "RUN" else one for one in arguments]
    with pytest.raises(SystemExit) as stopped:
        raise SystemExit(launch.main(["sample", *given, "--cache", str(cache)]))
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1 and told in error


def test_a_run_without_its_tokenizer_takes_the_one_of_its_corpus_or_none(runs, tmp_path):
    found, cache = runs
    kept = RunDirectory(found["char"]).tokenizer.read_text()
    (found["char"] / "tokenizer.json").rename(tmp_path / "kept.json")
    try:
        assert load(found["char"], cache=cache).tokenizer.to_json() == kept
        environment = json.loads((found["char"] / "env.json").read_text())
        (tmp_path / "env.json").write_text(json.dumps(environment))
        environment["corpus"]["fingerprint"] = "0" * 64
        write_json(found["char"] / "env.json", environment)
        with pytest.raises(BadInput, match=r"data\.tokenizer='char' is another here"):
            load(found["char"], cache=cache)
    finally:
        (tmp_path / "kept.json").rename(found["char"] / "tokenizer.json")
