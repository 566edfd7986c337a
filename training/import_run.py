"""`python launch.py import DIR --name NAME`: a folder of weights becomes a run that others start from."""

import contextlib
import dataclasses
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from core.cli import parse
from core.codec import from_json, to_json
from core.errors import EXIT_COMPLETE, BadInput, writes
from core.files import read_object, write_atomic, write_json
from core.names import plain_name
from core.reading import path_exists
from core.records import CorpusRecord, ImportRecord, RunResult
from core.rundir import SPEC, RunDirectory, SweepDirectory
from data import tokenizers
from data.config import DataConfig
from model.config import BASE, ModelConfig
from model.exchange.huggingface.read import HuggingFaceFolder, read_folder
from model.exchange.huggingface.tokenizer import TOKENIZER, undecorated
from training import provenance
from training.cost import ledger_of
from training.export import whole_folder
from training.processes.start import configure_jax
from training.records import git_commit, utc_now
from training.spec import COMPUTED, RunSpec

ABOUT = """Make a run of a Hugging Face folder: one of `launch.py export`, or any Qwen3 or Llama.

python launch.py import my-model --name mine
python launch.py sample runs/mine/RUN --prompt "once upon"
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line."""

    folder: Positional[Path]
    """with config.json, safetensors and tokenizer.json"""
    name: str
    """of the folder in `runs` that the run lies in"""
    runs: Path = Path("runs")
    """folder of sweeps"""
    corpus: str = DataConfig.corpus
    """text that tasks are checked against, where the folder does not say what it was trained on"""
    cache: Path = Path("cache")
    """corpora, tokens, compiled programs"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the run and say where it is."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parse(Arguments, given, "python launch.py import", about=ABOUT)
    configure_jax(options.cache)
    directory = import_folder(options.folder, plain_name("--name", options.name), options.runs, options.corpus)
    sys.stdout.write(f"{directory}: imported from {options.folder}\n")
    return EXIT_COMPLETE


def import_folder(folder: Path, name: str, runs: Path, corpus: str = DataConfig.corpus) -> Path:
    """The run directory made of a folder; one that is there already is left as it is.

    Raises:
      BadInput: as `read_folder`; a tokenizer with more tokens than the network has rows; or spec.json beside the
        weights describes another model.
    """
    found = read_folder(folder)
    beside = folder / SPEC
    original = _original(beside) if path_exists(beside) else None
    sweep = runs / name
    with writes(sweep):
        spec, tokenizer_json = (
            _of_ours(found, original, beside, sweep) if original else _of_others(found, folder, corpus, sweep)
        )
        directory = SweepDirectory(sweep).run(spec.run_id)
        if directory.is_complete():
            return directory.path
        if path_exists(directory.path):
            raise BadInput(f"{directory.path}: is there, and not complete; remove it to import {folder} again")
        with whole_folder(directory.path) as workshop:
            _write(RunDirectory(workshop), spec, found, folder, tokenizer_json)
    return directory.path


def _original(path: Path) -> RunSpec:
    try:
        return from_json(RunSpec, read_object(path))
    except BadInput as error:
        raise BadInput(f"{path}: {error}; without the file the folder is taken for somebody else's") from None


def _of_ours(found: HuggingFaceFolder, original: RunSpec, beside: Path, sweep: Path) -> tuple[RunSpec, str]:
    """The spec of the run whose export the folder is, but for what cannot be had again, and its own tokenizer.json."""
    model = _plain(original.model)
    for field in dataclasses.fields(ModelConfig):
        ours, theirs = (
            getattr(one, f"resolved_{field.name}", getattr(one, field.name))
            for one in (model, found.network.network)
        )
        if field.name not in COMPUTED and ours != theirs:
            raise BadInput(
                f"{beside}: says model.{field.name}={ours}, and config.json {theirs}; without the file the folder is "
                "taken for somebody else's"
            )
    kind = original.data.tokenizer.partition(":")[0]
    try:
        content = undecorated(found.tokenizer_json, original.data.tokenizer)
    except BadInput as error:
        raise BadInput(f"{beside.parent}/{error}") from None
    except ValueError as error:
        raise BadInput(f"{beside.parent / TOKENIZER}: not readable as JSON ({error})") from None
    data = original.data
    if kind == "file":
        data = dataclasses.replace(data, tokenizer=_kept(content, sweep))
    _check_tokenizer(data.tokenizer, content, model, beside.parent / TOKENIZER)
    spec = dataclasses.replace(
        original,
        model=model,
        data=data,
        parent=None,
        branch_at_tokens=None,
        start="",
        evaluation_marks=(),
        checkpoint_marks=(),
        tasks=(),
        imported=found.sha256,
    )
    return spec, content


def _plain(model: ModelConfig) -> ModelConfig:
    """The network whose weights have the multipliers of muP in them."""
    defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig) if field.name in BASE}
    return dataclasses.replace(model, parametrization="standard", **defaults)  # type: ignore[arg-type]


def _of_others(found: HuggingFaceFolder, folder: Path, corpus: str, sweep: Path) -> tuple[RunSpec, str]:
    """A spec of somebody else's folder: its network and context, no training, and its tokenizer.json as it is."""
    model, length = found.network.network, found.network.context
    _check_tokenizer(f"file:{folder / TOKENIZER}", found.tokenizer_json, model, folder / TOKENIZER)
    data = DataConfig(
        corpus=corpus,
        tokenizer=_kept(found.tokenizer_json, sweep),
        sequence_length=length,
        validation_tokens=max(length, DataConfig.validation_tokens),
    )
    spec = RunSpec(model=model, data=data, tokens=length, batch_tokens=length, imported=found.sha256)
    return spec.located(), found.tokenizer_json


def _kept(content: str, sweep: Path) -> str:
    """`file:PATH` of a copy beside the runs: a run's own name follows from the path, so it cannot lie in the run."""
    path = sweep.absolute() / f"tokenizer-{hashlib.sha256(content.encode()).hexdigest()[:8]}.json"
    if not path_exists(path):
        write_atomic(path, content)
    return f"file:{path}"


def _check_tokenizer(specification: str, content: str, model: ModelConfig, path: Path) -> None:
    tokenizer = tokenizers.load(specification, content)
    if tokenizer.vocabulary > model.vocabulary:
        raise BadInput(
            f"{path}: has {tokenizer.vocabulary} tokens with the one that ends a document, and config.json vocab_size="
            f"{model.vocabulary}; must be at most that"
        )


def _write(
    files: RunDirectory, spec: RunSpec, found: HuggingFaceFolder, folder: Path, tokenizer_json: str
) -> None:
    """Every file of the run; result.json last."""
    training = _beside(folder)
    write_json(files.spec, to_json(spec))
    files.write_tokenizer(tokenizer_json)
    files.write_ledger(ledger_of(spec))
    origin: ImportRecord = {"folder": folder.name, "layout": found.network.kind, "weights": found.sha256}
    if training:
        origin["training"] = training
    files.write_environment(
        {
            "started": utc_now(),
            "commit": git_commit(),
            "corpus": _corpus(training, spec, tokenizers.load(spec.data.tokenizer, tokenizer_json).vocabulary),
            "mfu": {"convention": "palm", "peak_flops_per_device": None},
            "attempts": [],
            "imported": origin,
        }
    )
    _save(files, spec, found.params)
    result: RunResult = {
        "run": spec.run_id,
        "role": "imported",
        "tokens": spec.tokens,
        "trained_tokens": 0,
        "steps": 0,
        "evals": {},
        "params": ledger_of(spec)["params"],
        "flops": {},
        "wall_seconds": 0.0,
        "train_seconds": 0.0,
        "compile_seconds": 0.0,
        "tokens_per_second": 0.0,
        "attempts": 0,
        "checkpoints": files.checkpoint_tokens(),
    }
    files.write_result(files.seal(result))


def _beside(folder: Path) -> dict[str, Any]:
    """What the export says of how the model was trained; nothing of somebody else's folder, or of a damaged file."""
    with contextlib.suppress(BadInput):
        return read_object(folder / provenance.FILE)
    return {}


def _corpus(training: Mapping[str, Any], spec: RunSpec, vocabulary: int) -> CorpusRecord:
    """What was read, where the export says so; no fingerprint where nobody knows."""
    environment = training.get("environment")
    known = environment.get("corpus") if isinstance(environment, Mapping) else None
    record: CorpusRecord = {
        "name": spec.data.corpus,
        "fingerprint": "",
        "corpus_fingerprint": "",
        "vocabulary": vocabulary,
    }
    if isinstance(known, Mapping):
        for key in ("fingerprint", "corpus_fingerprint"):
            if isinstance(known.get(key), str):
                record[key] = known[key]  # type: ignore[literal-required]
    return record


def _save(files: RunDirectory, spec: RunSpec, params: Mapping[str, Any]) -> None:
    """A checkpoint like one of training, with a fresh optimizer."""
    import jax  # here: a bad folder is refused before it is loaded
    import jax.numpy as jnp

    from training.checkpoint import Checkpoints
    from training.processes.mesh import choose_mesh
    from training.state import TrainState, optimizer, state_shardings

    mesh = choose_mesh("", spec)
    with jax.set_mesh(mesh):

        def fresh(tree: Any) -> TrainState:
            key = jax.random.key_data(jax.random.key(spec.seed))
            return TrainState(tree, optimizer(spec.optim, spec.model).init(tree), key, jnp.zeros((), jnp.int32))

        abstract = jax.eval_shape(fresh, params)
        state = jax.jit(fresh, out_shardings=state_shardings(spec.model, spec.optim, abstract, mesh))(params)
        checkpoints = Checkpoints(files.checkpoints)
        try:
            progress = {"tokens": spec.tokens, "train_seconds": 0.0, "compile_seconds": 0.0, "attempt": 0}
            checkpoints.save(spec.tokens, state, progress)
            checkpoints.wait()
        finally:
            checkpoints.close()


__all__ = ["import_folder", "main"]
