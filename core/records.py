"""What the files of a run hold, key by key: the JSON that training writes and everything else reads.

Keys without `NotRequired` are in every file that this version writes. A reader leaves keys that it does not know alone.
"""

import dataclasses
import functools
import itertools
import json
import typing
from collections.abc import Mapping
from typing import Any, Final, NotRequired, TypedDict

from core.codec import typed
from core.errors import BadInput
from core.numbers import finite
from core.reading import parse_json, printable, shown

# Names of evaluations. A task's are task/<name>/<metric>; of the harness's own scores lm-eval/<name>/<metric>.
LOSS: Final = "val/loss"  # nats per token
BITS_PER_BYTE: Final = "val/bits_per_byte"
TASK: Final = "task/"
HARNESS: Final = "lm-eval/"
OF_TASKS: Final = (TASK, HARNESS)
HELD_OUT_TEXT: Final = "val"  # as a task of task_items.jsonl: its items are the sequences of held-out text


def of_a_task(name: str) -> tuple[str, str] | None:
    """(task, metric) of an evaluation's name; of the harness the task is lm-eval/<name>. None where it is no task's."""
    prefix = next((prefix for prefix in OF_TASKS if name.startswith(prefix)), None)
    task, _, metric = name.removeprefix(prefix or "").rpartition("/")
    if prefix is None or not task or not metric:
        return None
    return (prefix + task if prefix == HARNESS else task), metric


class Ledger(TypedDict):
    """ledger.json: parameters (`total`, `non_embedding`, `non_embedding_plus_head`) and FLOPs per token of training.

    FLOPs are by convention: exact, palm, 6N_total, 6N_non_embedding, 6N_non_embedding_plus_head (model/ledger.py).
    """

    params: dict[str, int]
    flops_per_token: dict[str, float]


class CorpusRecord(TypedDict):
    """What a run reads: SHA-256 of its tokens, of the text behind them and of its skills ("" without any).

    train_tokens are those of the train split; of a mixture, those that may be read before one of its corpora repeats,
    and mixture has the tokens of each.
    lost is the share of the bytes of held-out text that decoding does not give back; null where a cache is older.
    """

    name: str
    fingerprint: str
    corpus_fingerprint: str
    vocabulary: int
    skills: NotRequired[str]
    train_tokens: NotRequired[int]
    lost: NotRequired[float | None]
    mixture: NotRequired[list[int]]


class Utilization(TypedDict):
    """How `mfu` is counted: FLOPs by `convention`, over this peak in FLOP/s of one device; null where unknown."""

    convention: str
    peak_flops_per_device: float | None


class Attempt(TypedDict):
    """One process, or several, that trained the run for a while.

    attempt counts from 1. started is ISO 8601, UTC. mesh is devices by axis. cpus are the cores that the process may
    use. implementations says which kernel computes what, and why. pack is how many runs were one program.
    """

    attempt: int
    started: str
    commit: str | None
    python: str
    packages: dict[str, str]
    host: str
    platform: str
    device: str
    devices: int
    mesh: dict[str, int]
    implementations: NotRequired[dict[str, dict[str, str]]]
    processes: int
    cpus: list[int]
    pack: NotRequired[int]


class ImportRecord(TypedDict):
    """Where a run comes from that was not trained here: the folder, its layout, SHA-256 of its weights, and what lay
    beside them of how they were trained (training/provenance.py)."""

    folder: str
    layout: str
    weights: str
    training: NotRequired[dict[str, Any]]


class StageRecord(TypedDict):
    """A run that a later stage goes back to: its name (SWEEP/RUN where it is of another sweep), what it learned, on how
    many tokens of which corpus (0 of "unknown" where somebody else trained it), and a SHA-256 over the checksums of its
    final weights."""

    run: str
    objective: str
    tokens: int
    corpus: str
    weights: str


class Environment(TypedDict):
    """env.json: started is of the first attempt, commit of the last. imported is of a run that came from a folder.

    imported is of a run that came from a folder.
    lineage is of a run that begins with the weights of another: that one last, what it began with itself before it.
    """

    started: str
    commit: str | None
    corpus: CorpusRecord
    mfu: Utilization
    attempts: list[Attempt]
    imported: NotRequired[ImportRecord]
    lineage: NotRequired[list[StageRecord]]


class MetricRow(TypedDict):
    """A row of metrics.jsonl: the optimizer step that ended at `tokens`.

    loss is nats per token, lr the learning rate, seconds of training so far without compilation, evaluation and saving,
    flops by the ledger's `exact`. tokens_per_second and mfu are null where they were not measured. The rest is of
    experts (model/experts.py), a mean over layers: router_z, balance, load_entropy (over its largest, 1 where all are
    chosen as often), load_largest (over the mean load), dropped_share.
    """

    step: int
    tokens: int
    flops: float
    seconds: float
    attempt: int
    loss: float
    lr: float
    grad_norm: float
    tokens_per_second: float | None
    mfu: float | None
    router_z: NotRequired[float]
    balance: NotRequired[float]
    load_entropy: NotRequired[float]
    load_largest: NotRequired[float]
    dropped_share: NotRequired[float]


class EvaluationRow(TypedDict):
    """A row of evals.jsonl: one number at `tokens`, over `n` tokens or problems, with its standard error."""

    tokens: int
    name: str
    value: float
    n: int
    stderr: float
    attempt: int


class TaskRecord(TypedDict):
    """What tasks.json says of a task, by its name.

    chance and choice_chance are accuracies of a guess. positive_control: its problems are in the training text by
    intent. overlap with that text: items_found of the problems, grams_found of `grams` n-grams of gram_tokens each.
    """

    family: str
    items: int
    chance: float
    choice_chance: float
    positive_control: bool
    memorised: bool
    fingerprint: str
    overlap: dict[str, int]


class Cover(TypedDict):
    """The first `bytes` bytes of a file have this SHA-256. Logs only grow: a later backfill adds rows behind them."""

    bytes: int
    sha256: str


class RunResult(TypedDict):
    """result.json: what the finished run came to.

    role is run, trunk, branch, or imported, of which nothing was trained: it has no train_loss and no val/loss. tokens
    is D, of which a branch trained only trained_tokens itself. train_loss is the mean of the last 5% of tokens. evals
    are those at the end. flops are totals by convention, shared tokens included. attempts is how many there were.
    corpus_tokens are the distinct tokens of the train split, unique_tokens those that the run read, epochs its passes
    over what it may read of the split (core/epochs.py). checkpoints are those that lie there at the end. files and
    sha256 are checksums (core/seal.py).
    """

    run: str
    role: str
    tokens: int
    trained_tokens: int
    steps: int
    train_loss: NotRequired[float]
    evals: dict[str, float]
    params: dict[str, int]
    flops: dict[str, float]
    wall_seconds: float
    train_seconds: float
    compile_seconds: float
    tokens_per_second: float
    attempts: int
    corpus_tokens: NotRequired[int | None]
    unique_tokens: NotRequired[int]
    epochs: NotRequired[float]
    epochs_by_corpus: NotRequired[dict[str, float]]
    checkpoints: NotRequired[list[int]]
    files: NotRequired[dict[str, Cover]]
    sha256: NotRequired[str]


class HeldBackRun(TypedDict):
    """A run that is to be forecast: N (non-embedding parameters plus head), D and, where it has one, data.mixture."""

    run: str
    params: int
    tokens: int
    mixture: NotRequired[str]


class HeldBack(TypedDict):
    """held_back.json: runs that are forecast before they start, and the trunks that their branches start from."""

    runs: list[HeldBackRun]
    trunks: list[str]


def held_back_of(value: Any, where: object) -> HeldBack:
    """The content of a held_back.json.

    Raises:
      BadInput: it is something else; `where` names the file.
    """
    try:
        return typed(HeldBack, value)
    except BadInput:
        raise BadInput(
            f"{where}: not a list of held-back runs (names no held-back run with its params and tokens)"
        ) from None


@dataclasses.dataclass(frozen=True)
class Completion:
    """Whether a run is complete.

    Attributes:
      result: the content of result.json where the run is complete, else None.
      problem: why a result.json that is there does not count, one line; empty otherwise.
    """

    result: Mapping[str, Any] | None = None
    problem: str = ""


def completion_of(run: str, payload: bytes | None, spec: Mapping[str, Any] | None = None) -> Completion:
    """The rule: a run is complete if its result.json is there, is of this run and its spec, and has its final loss.

    Args:
      run: run_id, the name of the directory.
      payload: bytes of result.json; None where there is none.
      spec: content of spec.json; None where it is not known.
    """
    if payload is None:
        return Completion()
    try:
        value = parse_json(payload)
    except ValueError as error:
        return Completion(problem=f"not readable as JSON ({printable(str(error))})")
    if not isinstance(value, dict):
        return Completion(problem=f"holds no object but {type(value).__name__}")
    if value.get("run") != run:
        return Completion(problem=f"belongs to run {shown(value.get('run'))}")
    problem = _contradiction(value, spec or {})
    return Completion(problem=problem) if problem else Completion(value)


@functools.cache
def _types_of_a_result() -> dict[str, Any]:
    return typing.get_type_hints(RunResult)


def _contradiction(result: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """What a result of a run that is trained to its end cannot say; what it does not say, an older version left out."""
    try:
        for key, hint in _types_of_a_result().items():
            if key in result:
                typed(hint, result[key], key)
    except BadInput as error:
        return str(error)
    if final_evaluation(result) is None and not is_imported(spec):
        return f"has no {LOSS} (evals={shown(result.get('evals'))})"
    if "tokens" not in result or result["tokens"] != spec.get("tokens", result["tokens"]):
        return f"says tokens={shown(result.get('tokens'))}, the spec {shown(spec.get('tokens'))}"
    return ""


def is_imported(spec: Mapping[str, Any]) -> bool:
    """Whether the weights of a run came from a folder: it was not trained here, and is in no fit."""
    return bool(spec.get("imported"))


def final_evaluation(result: Mapping[str, Any], name: str = LOSS) -> float | None:
    """A number of the run's end by its name; None where a result.json has no such finite number."""
    evaluations = result.get("evals")
    return finite(evaluations.get(name)) if isinstance(evaluations, Mapping) else None


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a run's numbers come from. Each is empty where env.json does not say.

    Attributes:
      started: of the first attempt, ISO 8601.
      commit: of the code.
      corpus: fingerprint of what was read.
      device, versions: of the last attempt; versions of packages as JSON.
      products: what matrix products were computed in, of each attempt that differs from the one before.
    """

    started: str = ""
    commit: str = ""
    corpus: str = ""
    device: str = ""
    versions: str = ""
    products: str = ""


def provenance_of(environment: Mapping[str, Any]) -> Provenance:
    """What an env.json says, however much of it there is."""
    attempts, corpus = environment.get("attempts"), environment.get("corpus")
    last = attempts[-1] if isinstance(attempts, list) and attempts else None

    def text(tree: Any, key: str) -> str:
        value = tree.get(key) if isinstance(tree, Mapping) else None
        return (
            printable(value)
            if isinstance(value, str)
            else ""
            if value is None
            else json.dumps(value, sort_keys=True)
        )

    return Provenance(
        started=text(environment, "started"),
        commit=text(environment, "commit"),
        corpus=text(corpus, "fingerprint"),
        device=text(last, "device"),
        versions=text(last, "packages"),
        products=", then ".join(
            name for name, _ in itertools.groupby(map(_products, _listed(attempts))) if name
        ),
    )


def _listed(attempts: Any) -> list[Any]:
    return attempts if isinstance(attempts, list) else []


def _products(attempt: Any) -> str:
    """What an attempt computed matrix products in; empty where it does not say."""
    for key in ("implementations", "products", "name"):
        attempt = attempt.get(key) if isinstance(attempt, Mapping) else None
    return printable(attempt) if isinstance(attempt, str) else ""
