"""export and import of a trained run: whole or not at all, the same bytes back, in no fit, and what is refused."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

import launch
from analysis.logs.load import load_sweep
from core.codec import to_json
from core.errors import BadInput
from core.files import write_json
from core.rundir import RunDirectory
from data.config import DataConfig
from launchers.doctor.examine import examine
from launchers.status import sweep_status
from model import exchange
from model.config import ModelConfig
from model.exchange import huggingface
from tests.support.exchange import BASE, exported
from tests.support.small import cache_folder, write_corpus
from training.evaluate.holes import fill
from training.execute import execute
from training.execution import Execution
from training.export import export
from training.import_run import import_folder
from training.lineage import lineage_of
from training.load import load
from training.prepare import prepare
from training.spec import OptimConfig, RunSpec

pytestmark = pytest.mark.slow
TASK = "copying"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run of BPE and muP, its export, and where caches lie."""

    run: object
    out: object
    cache: object


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    corpus, cache = write_corpus(folder / "corpus", documents=120), cache_folder(folder)
    spec = RunSpec(
        model=ModelConfig(
            vocabulary=320,
            width=16,
            depth=3,
            heads=2,
            kv_heads=1,
            tied=False,
            parametrization="mup",
            base_width=8,
        ),
        data=DataConfig(
            corpus=f"text:{corpus}", tokenizer="bpe:300", sequence_length=32, validation_tokens=512
        ),
        optim=OptimConfig(learning_rate=1e-2),
        tokens=8192,
        batch_tokens=1024,
        tasks=(TASK,),
        task_items=20,
    )
    prepare([spec], cache, progress=False)
    directory = folder / "sweep" / spec.run_id
    directory.mkdir(parents=True)
    write_json(directory / "spec.json", to_json(spec))
    (outcome,) = execute([directory], Execution(cache_root=cache)).values()
    assert outcome.status == 0, outcome.message
    export(directory, "huggingface", folder / "out", cache=cache)
    return Trial(directory, folder / "out", cache)


@pytest.fixture(scope="module")
def back(trial, tmp_path_factory):
    """The run that the export becomes."""
    return import_folder(trial.out, "back", tmp_path_factory.mktemp("runs"))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_an_imported_run_writes_what_the_original_wrote_and_its_export_has_the_same_bytes(
    trial, back, tmp_path
):
    first, second = load(trial.run, cache=trial.cache), load(back, cache=tmp_path)
    text = "alpha beta gamma = 12\nlaw"
    np.testing.assert_allclose(first.logprobs(text), second.logprobs(text), atol=2e-5)
    (one,), (other,) = (model.sample(text, max_tokens=30, temperature=0) for model in (first, second))
    assert one.text == other.text
    assert second.config.parametrization == "standard" and second.spec.imported
    export(back, "huggingface", tmp_path / "again", cache=tmp_path)
    assert contents(tmp_path / "again") == contents(trial.out)


def test_training_goes_on_from_an_imported_run(trial, back):
    """Its first evaluation is the last one of the original, whose multipliers of muP are in the weights now."""
    parent = load(back, cache=trial.cache).spec
    spec = dataclasses.replace(
        parent, imported="", start="weights", parent=back.name, tokens=2048, evaluation_marks=(0,)
    )
    directory = back.parent / spec.run_id
    write_json(directory / "spec.json", to_json(spec))
    (outcome,) = execute([directory], Execution(cache_root=trial.cache)).values()
    assert outcome.status == 0, outcome.message
    rows, _ = RunDirectory(directory).read_evaluations()
    (first,) = [row["value"] for row in rows if (row["tokens"], row["name"]) == (0, "val/loss")]
    assert first == pytest.approx(RunDirectory(trial.run).read_result()["evals"]["val/loss"], abs=1e-4)
    (stage,) = RunDirectory(directory).read_environment()["lineage"]
    assert stage["tokens"] == 8192 and stage["weights"]


def test_the_card_says_how_it_was_trained_what_was_measured_and_what_it_cannot_do(trial):
    card = (trial.out / "README.md").read_text()
    environment = RunDirectory(trial.run).read_environment()
    bits = RunDirectory(trial.run).read_result()["evals"]["val/bits_per_byte"]
    for said in (
        "one decoder transformer",
        "8.19k tokens",
        "tokenized by bpe:300",
        "optimizer was adamw (peak learning rate 0.01",
        "schedule wsd",
        "1 seed of initialization",
        environment["corpus"]["fingerprint"],
        environment["attempts"][-1]["packages"]["jax"],
        f"| held-out bits per byte | {bits:.4g} |",
        f"| `task/{TASK}/exact_match` |",
        "## Limits",
        "contexts of 32 tokens",
    ):
        assert said in card, said
    everything = b"".join(contents(trial.out).values())
    assert environment["attempts"][-1]["host"].encode() not in everything, (
        "the name of the machine left the house"
    )


def test_an_imported_run_is_complete_and_in_no_fit(trial, back, tmp_path):
    sweep = tmp_path / "both"
    shutil.copytree(trial.run, sweep / trial.run.name)
    shutil.copytree(back, sweep / back.name)
    rows = {row.run: row for row in sweep_status(sweep)}
    assert rows[back.name].state == "complete" and "imported, not trained here" in rows[back.name].note
    assert [finding for finding in examine(sweep) if back.name in finding.where] == []
    logs = load_sweep(sweep)
    assert [run.run for run in logs.usable] == [trial.run.name]
    assert logs.left_out()[back.name] == "from a folder, not trained here"
    assert launch.main(["status", str(sweep)]) == 0


def test_tasks_are_scored_on_an_imported_run_as_on_the_original(trial, back, tmp_path):
    sweep = tmp_path / "sweep"
    shutil.copytree(back, sweep / back.name)
    summary = fill(sweep, [TASK], 20, trial.cache)
    assert summary.failed == {} and summary.filled == [(back.name, TASK)]

    def score(directory):
        rows, _ = RunDirectory(directory).read_evaluations()
        return next(row["value"] for row in rows if row["name"] == f"task/{TASK}/nll")

    assert score(sweep / back.name) == pytest.approx(score(trial.run), rel=1e-4)
    assert sweep_status(sweep)[0].note == "imported, not trained here"


def test_an_imported_run_is_never_trained(back, tmp_path):
    spec = load(back).spec
    with pytest.raises(BadInput, match="came from a folder and are not trained"):
        prepare([spec], tmp_path)
    directory = tmp_path / "sweep" / spec.run_id
    directory.mkdir(parents=True)
    write_json(directory / "spec.json", to_json(spec))
    (outcome,) = execute([directory], Execution(cache_root=tmp_path)).values()
    assert outcome.status == 2 and "are not trained" in outcome.message
    with pytest.raises(BadInput, match="imported='abc': must be the SHA-256"):
        dataclasses.replace(spec, imported="abc")


def test_the_same_folder_twice_is_the_same_run_and_other_weights_are_another(trial, back, tmp_path):
    assert import_folder(trial.out, "back", back.parent.parent) == back
    other = tmp_path / "bfloat16"
    export(trial.run, "huggingface", other, "bfloat16", cache=trial.cache)
    assert import_folder(other, "back", back.parent.parent).name != back.name
    again = tmp_path / "again"
    export(import_folder(other, "b", tmp_path), "huggingface", again, "bfloat16")
    assert contents(again) == contents(other)


def test_a_folder_of_somebody_elses_becomes_a_run(tmp_path, capsys):
    model = exported(
        dataclasses.replace(BASE, qk_norm=False, width=16, depth=1, head_width=4), "bpe:290", context=64
    )
    folder = tmp_path / "llama"
    folder.mkdir()
    huggingface.write(model, folder, "float32")
    arguments = ["import", str(folder), "--name", "theirs", "--runs", str(tmp_path / "runs")]
    assert launch.main([*arguments, "--cache", str(tmp_path)]) == 0
    directory = tmp_path / "runs" / "theirs" / os.path.basename(capsys.readouterr().out.split(":")[0])
    loaded = load(directory)
    assert loaded.spec.data.sequence_length == 64 and loaded.tokenizer.separator == model.end
    np.testing.assert_array_equal(loaded.params["blocks"]["query"], model.params["blocks"]["query"])
    export(directory, "huggingface", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert "Imported from the folder `llama`" in (tmp_path / "out" / "README.md").read_text()
    later = dataclasses.replace(loaded.spec, imported="", start="weights", parent=directory.name)
    tokenizer = (directory / "tokenizer.json").read_text()
    (stage,) = lineage_of(later, directory.parent / later.run_id, tokenizer)
    assert (stage["tokens"], stage["corpus"]) == (0, "unknown")


def refused(capsys, *arguments):
    """The one line of a command that is refused."""
    with pytest.raises(SystemExit) as stop:
        launch.main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1, said
    return said


def test_what_export_refuses(trial, tmp_path, capsys):
    def said(run=trial.run, form="huggingface", out=tmp_path / "new", *more):
        return refused(capsys, "export", run, "--format", form, "--out", out, *more)

    full, file, link = tmp_path / "full", tmp_path / "file", tmp_path / "link"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    file.write_text("mine")
    link.symlink_to(tmp_path / "elsewhere")
    begun = tmp_path / "sweep" / trial.run.name
    shutil.copytree(trial.run, begun)
    (begun / "result.json").unlink()
    assert (
        "holds files already" in said(out=full)
        and "no folder" in said(out=file)
        and "no folder" in said(out=link)
    )
    assert "must be one of huggingface" in said(form="gguf") or "huggingface" in said(form="gguf")
    assert "stores float32 or bfloat16" in said(trial.run, "huggingface", tmp_path / "new", "--dtype", "int4")
    assert "no such run directory" in said(tmp_path / "nowhere")
    assert "not a complete run" in said(begun)
    assert "there are those at" in said(trial.run, "huggingface", tmp_path / "new", "--tokens", "5")
    assert not (tmp_path / "new").exists() and [path.name for path in full.iterdir()] == ["mine.txt"]


def test_what_import_refuses(trial, tmp_path, capsys):
    def said(folder, name="x"):
        return refused(capsys, "import", folder, "--name", name, "--runs", tmp_path / "runs")

    def copy(name, **entries):
        shutil.copytree(trial.out, tmp_path / name)
        path = tmp_path / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
        return tmp_path / name

    spoilt = copy("spec")
    (spoilt / "spec.json").write_text("{}")
    broken = copy("broken")
    (broken / "spec.json").write_text("{")
    tokens = copy("tokens")
    (tokens / "tokenizer.json").write_text("[]")
    assert "no such folder" in said(tmp_path / "nowhere")
    assert "--name='../x'" in said(trial.out, "../x")
    assert "says model." in said(spoilt) and "not readable as JSON" in said(broken)
    assert "not a tokenizer.json" in said(tokens)
    assert "says model.norm_epsilon=1e-06, and config.json 1e-05" in said(copy("epsilon", rms_norm_eps=1e-5))
    assert "attention_bias=True" in said(copy("biases", attention_bias=True))
    assert not any((tmp_path / "runs").rglob("spec.json")), "a refused import left a run"


def test_an_export_that_is_cut_short_leaves_nothing(trial, tmp_path, monkeypatch):
    def half(model, folder, dtype):
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface, "write", half)
    with pytest.raises(KeyboardInterrupt):
        export(trial.run, "huggingface", tmp_path / "out", cache=trial.cache)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "out").mkdir()  # an empty folder is taken
    export(trial.run, "huggingface", tmp_path / "out", cache=trial.cache)
    assert contents(tmp_path / "out") == contents(trial.out)


def test_formats_of_this_folder_are_offered(capsys):
    with pytest.raises(SystemExit):
        launch.main(["export", "--help"])
    assert ", ".join(exchange.formats()) in capsys.readouterr().out
