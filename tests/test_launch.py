"""The command line: every mistake is one line that names the thing, exit status 2, and nothing lost."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import launch
from core.codec import to_json
from experiments import registry
from experiments.command import choose
from launchers.local.launch import LocalOptions
from launchers.local.launch import launch as launch_locally
from planning.flags import PlanFlags
from tests.support.small import ROOT, write_corpus
from training.spec import RunSpec

STORED = ROOT / "tests" / "stored" / "runs" / "stored"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("text"), documents=60)


def refused(capsys, arguments: list[str]) -> str:
    """The one line on standard error with which launch.py refuses these arguments."""
    with pytest.raises(SystemExit) as caught:
        launch.main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["fly", "plan", "run", "status"]),
        (["pln", "quickstart"], ["pln", "did you mean plan?", "status"]),
        (["plan"], ["experiment"]),
        (["plan", "--sizes", "2"], ["--sizes", "experiment comes first"]),
        (["plan", "nosuch"], ["nosuch", "quickstart"]),
        (["run", "quikstart"], ["quikstart", "did you mean quickstart?", "isoflop"]),
        (["submit", "quickstart", "--backend", "slrum"], ["--backend=slrum", "did you mean slurm?", "jobset"]),
        (["run", "../evil"], ["../evil", "quickstart"]),
        (["plan", "quickstart", "--sise", "2"], ["--sise"]),
        (["plan", "quickstart", "--sizes", "two"], ["--sizes", "two"]),
        (["plan", "quickstart", "--sizes", "-1"], ["sizes=-1"]),
        (["plan", "quickstart", "--seeds", "0"], ["seeds=0"]),
        (["plan", "quickstart", "--tokens", "0"], ["tokens=0", "1024"]),
        (["plan", "quickstart", "--tokens", "100"], ["tokens=100", "1024"]),
        (["plan", "quickstart", "--tokens", "-5"], ["tokens=-5"]),
        (["plan", "quickstart", "--preset", "moon"], ["--preset=moon", "cpu"]),
        (["plan", "quickstart", "--preset=moon"], ["--preset=moon", "cpu"]),
        (["plan", "quickstart", "--preset"], ["--preset"]),
        (["plan", "quickstart", "--set", "model.width"], ["model.width", "KEY=VALUE"]),
        (["plan", "quickstart", "--set", "model.wide=3"], ["model.wide", "model.width"]),
        (
            ["plan", "quickstart", "--set", "model.width=40", "model.heads=3", "model.kv_heads=3"],
            ["model.width=40"],
        ),
        (["plan", "quickstart", "--set", "optim.learning_rate=fast"], ["optim.learning_rate='fast'"]),
        (["plan", "quickstart", "--corpus", "novels"], ["novels", "text:PATH"]),
        (["plan", "quickstart", "--name", "../up"], ["--name='../up'"]),
        (["run", "quickstart", "--corpus", "text:/no/such/folder"], ["/no/such/folder"]),
        (["run", "quickstart", "--corpus", "tfds:no_such_dataset"], ["no_such_dataset"]),
        (["run", "quickstart", "--checkpoint-seconds", "0"], ["--checkpoint-seconds=0"]),
        (["run", "quickstart", "--mesh", "data=two"], ["--mesh=data=two", "axes data, fsdp, tensor"]),
        (["run", "quickstart", "--workers", "many"], ["--workers", "many"]),
        (["status", "--runs", "no-such-runs"], ["no-such-runs", "no such folder of sweeps"]),
        (["status", "runs/no-such-sweep"], ["runs/no-such-sweep"]),
        (["status", "tests/stored/runs/stroed"], ["stroed", "did you mean tests/stored/runs/stored?"]),
        (["run", "quickstart", "--budget-flops", "1e6"], ["--budget-flops=1e+06", "1.366e+13"]),
        (["submit", "quickstart", "--budget-flops", "1e6"], ["--budget-flops=1e+06", "8.521e+12"]),
        (["bench", "--no-such-flag"], ["--no-such-flag"]),
    ],
)
def test_mistakes_of_the_command_line(capsys, tmp_path, arguments, words):
    where = ["--cache", str(tmp_path / "cache"), "--runs", str(tmp_path / "runs")]
    line = refused(capsys, arguments + (where if arguments[0] == "run" else []))
    for word in words:
        assert word in line


def run_arguments(corpus: Path, tmp_path: Path, *more: str) -> list[str]:
    arguments = ["run", "quickstart", "--sizes", "1", "--tokens", "8192", "--corpus", f"text:{corpus}"]
    return [*arguments, "--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache"), *more]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--workers", "0"], ["--workers=0"]),
        (["--cores-per-worker", "1000"], ["--cores-per-worker=1000"]),
        (["--set", "model.vocabulary=100"], ["model.vocabulary=100", "256"]),
        (["--set", "data.tokenizer=file:/no/such.json"], ["/no/such.json"]),
        (["--set", "data.sequence_length=1024", "data.validation_tokens=65536"], ["validation"]),
        (["--set", "data.unique_tokens=90000000"], ["unique_tokens"]),
    ],
)
def test_mistakes_that_only_the_data_reveals(capsys, corpus, tmp_path, more, words):
    more = [*more, "--set", "data.validation_tokens=1024"] if "validation" not in words else more
    line = refused(capsys, run_arguments(corpus, tmp_path, *more))
    for word in words:
        assert word in line
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_an_empty_corpus_is_refused(capsys, tmp_path):
    (tmp_path / "nothing").mkdir()
    assert "nothing" in refused(capsys, run_arguments(tmp_path / "nothing", tmp_path))


def test_an_unwritable_runs_folder_is_refused(capsys, corpus, tmp_path):
    line = refused(
        capsys, run_arguments(corpus, tmp_path, "--set", "data.validation_tokens=1024", "--runs", "/proc/x")
    )
    assert "/proc/x" in line
    assert "cannot be written" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{torn", ["spec.json", "JSON"]),
        ("[]", ["spec.json", "object"]),
        (json.dumps({**to_json(RunSpec()), "colour": "blue"}), ["spec.json", "colour"]),
        (json.dumps(to_json(RunSpec(seed=9))), ["spec.json", RunSpec(seed=9).run_id]),
    ],
)
def test_a_corrupt_spec_is_refused_and_left_as_it_is(tmp_path, content, words):
    spec = RunSpec(tokens=8192)
    directory = tmp_path / "sweep" / spec.run_id
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text(content)
    for command in (
        [sys.executable, "-m", "training.run", str(directory), "--cache", str(tmp_path / "cache")],
        [sys.executable, "-c", f"import tests.test_launch as t; t.launch_one({str(tmp_path / 'sweep')!r})"],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        for word in words:
            assert word in done.stderr
    assert (directory / "spec.json").read_text() == content


def launch_one(sweep: str) -> None:
    """Launch RunSpec(tokens=8192) under `sweep` as the command line would."""
    from core.errors import exit_on_bad_input

    with exit_on_bad_input():
        launch_locally(Path(sweep), [RunSpec(tokens=8192)], LocalOptions())


def test_a_missing_run_directory_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training.run", str(tmp_path / "nothing")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no such run directory" in done.stderr


def test_plan_prints_every_run_and_trains_nothing(capsys, tmp_path):
    assert launch.main(["plan", "quickstart", "--runs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert len(re.findall(r"^\d+x\d+ ", text, re.MULTILINE)) == 6
    assert "31 to train" in text
    assert "FLOPs" in text
    assert not list(tmp_path.iterdir())
    assert launch.main(["run", "quickstart", "--dry-run", "--runs", str(tmp_path)]) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", registry.names())
def test_the_preset_cpu_is_the_defaults_of_every_experiment(name):
    kinds = (["plan", name], ["plan", name, "--preset", "cpu"], ["plan", name, "--preset=cpu"])
    plain, *others = [choose("plan", words[1:], PlanFlags, "")[0].sweep for words in kinds]
    assert others == [plain, plain]


def test_flags_after_a_preset_win_over_it():
    study, _ = choose("plan", ["chinchilla", "--preset", "h100", "--tokens", "7340032"], PlanFlags, "")
    assert {run.tokens for run in study.specs} == {7_340_032}
    assert {run.batch_tokens for run in study.specs} == {16_384}


def test_set_may_be_given_again_and_again():
    words = [
        "quickstart",
        "--set",
        "model.width=64",
        "model.heads=4",
        "--sizes",
        "1",
        "--set",
        "model.kv_heads=4",
    ]
    study, _ = choose("plan", words, PlanFlags, "")
    assert {(run.model.width, run.model.heads, run.model.kv_heads) for run in study.specs} == {(64, 4, 4)}


@pytest.mark.parametrize(
    ("verb", "more", "words"),
    [
        ("plan", [], ["--target", "--price", "--json", "quickstart  ", "plan --budget"]),
        ("plan", ["quickstart"], ["Claim", "--sizes", "--no-trunk", "--set", "--device-memory"]),
        ("plan", ["--budget", "1"], ["--runs-at-most", "--tokens-per-param", "run planned --plan"]),
        ("run", [], ["--workers", "--mesh", "--dry-run", "run quickstart --set model.width=96"]),
        ("submit", [], ["--backend", "--partition", "--checkpoint-seconds", "--backend slurm"]),
        ("bench", ["quickstart"], ["--seconds", "--sizes"]),
        ("status", [], ["--json", "status runs/quickstart"]),
        ("cancel", [], ["cancel runs/quickstart"]),
        ("doctor", [], ["--repair", "doctor runs/quickstart"]),
    ],
)
def test_help_of_each_verb_has_its_flags_and_examples(capsys, monkeypatch, verb, more, words):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        launch.main([verb, *more, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in words:
        assert word in text
    docstring = registry.load("quickstart").docstring.splitlines()
    assert max(len(line) for line in text.splitlines() if line not in docstring) <= 80


@pytest.mark.parametrize(
    "words", [["--help"], ["plan"], ["plan", "quickstart"], ["status", "tests/stored/runs/stored"]]
)
def test_what_only_looks_loads_no_jax(words):
    code = (
        "import sys, launch\n"
        "try: launch.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert 'jax' not in sys.modules and 'tensorflow_datasets' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, check=True, capture_output=True)


def test_help_teaches(capsys):
    assert max(map(len, launch.__doc__.splitlines())) <= 80
    assert launch.main([]) == 0
    assert "python launch.py run quickstart" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        launch.main(["run", "quickstart", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("Claim", "Cost", "--sizes", "--set", "--workers"):
        assert word in text
