"""Score held-out tasks: every problem of every task in a few fixed shapes, compiled once each.

A problem is the separator (the beginning of a document), its prompt and an answer, each tokenized by itself. The
right answer and every wrong one are scored by their negative log-likelihood; wrong answers of one token are read
off the same logits as the right one, others cost a sequence each. Problems of all tasks share batches.

Exact match needs no decoding: greedy decoding writes the target if and only if each of its tokens is the most
likely one after the prompt and the target's tokens before it, which teacher forcing shows in one pass. The same
pass gives the probability exp(-nll) of an exact match when sampling at temperature 1, so that a success rate of
one in a million is seen without a million samples (Hu et al. 2023, arXiv 2310.03262). Edit distance compares the
target with the teacher-forced most likely tokens: up to and including the first mistake they are what greedy
decoding writes.
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from core.errors import BadInput
from data.tasks.protocol import Task
from data.tokenizers import Tokenizer
from model import sharding
from model.config import ModelConfig, kind_of
from model.kernels.device import products_as
from model.kernels.install import with_kernels
from model.loss import cross_entropy
from model.mesh_shape import batch_parts
from model.transformer import Transformer
from training.evaluate import unlike_decoders
from training.evaluate.loss import Score

METRICS = (
    "exact_match",
    "choice_accuracy",
    "choice_accuracy_norm",
    "token_accuracy",
    "edit_distance",
    "probability",
    "nll",
    "nll_per_token",
    "brier",
    "chance",
    "choice_chance",
)
OPTIONS = 32  # single-token choices that one sequence carries, the right one among them
SMALLEST_LENGTH = 16
BATCH_TOKENS = 16_384
LOGITS_OF_A_BATCH = 2**26  # with a large vocabulary a batch is smaller: 256 MB of float32 logits

# (tokens_BS, positions_B1, options_BK) -> (nll_BT, likeliest_BT, option_logp_BK), S = T + 1
Answer = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[Any, Any, Any]]


@dataclasses.dataclass(frozen=True)
class ScoredSequence:
    """One sequence to score.

    Attributes:
      tokens: separator, prompt and answer, int32 (length,).
      start: index of the answer's first token.
      options: token ids of single-token choices at `start`, the right one first; empty where there are none.
    """

    tokens: np.ndarray
    start: int
    options: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class PreparedTask:
    """The problems of one task as sequences.

    Attributes:
      task: where they come from.
      problems: for each, its sequences: the target's, then one for each wrong answer of several tokens.
      choices: for each, how many answers there are to choose from, the right one included.
      fingerprint: SHA-256 over the problems' text and the tokenizer's ids.
      characters: for each, those of its answers, the right one first.
    """

    task: Task
    problems: tuple[tuple[ScoredSequence, ...], ...]
    choices: tuple[int, ...]
    fingerprint: str
    characters: tuple[tuple[int, ...], ...]

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def choice_chance(self) -> float:
        """Mean accuracy of choosing blindly."""
        return sum(1 / count for count in self.choices) / len(self.choices)


@dataclasses.dataclass(frozen=True)
class ItemScores:
    """The scores of every problem of one task, each (n,); NaN in choice scores where a problem has one choice."""

    exact_match: np.ndarray
    choice_accuracy: np.ndarray
    choice_accuracy_norm: np.ndarray
    token_accuracy: np.ndarray
    edit_distance: np.ndarray
    nll: np.ndarray
    target_tokens: np.ndarray
    brier: np.ndarray


def prepare_task(task: Task, count: int, tokenizer: Tokenizer, context: int) -> PreparedTask:
    """`count` problems of `task` in tokens.

    Raises:
      BadInput: fewer problems than asked for, or a problem longer than the context of `context` tokens.
    """
    items = task.items(count)
    answers = [(item.target, *item.distractors) for item in items]
    prompts_ids = tokenizer.encode([item.prompt for item in items])
    answer_ids = tokenizer.encode([answer for own in answers for answer in own])
    offsets = np.cumsum([0, *(len(own) for own in answers)])
    problems, digest = [], hashlib.sha256()
    for index, prompt in enumerate(prompts_ids):
        own = answer_ids[offsets[index] : offsets[index + 1]]
        digest.update(json.dumps([answers[index], prompt.tolist(), own[0].tolist()]).encode())
        head = np.concatenate([[tokenizer.separator], prompt]).astype(np.int32)
        longest = len(head) + max(map(len, own)) - 1
        if longest > context:
            raise BadInput(
                f"task {task.name}: problem {index} has {longest} tokens with its separator; must be at most "
                f"data.sequence_length={context}"
            )
        if not all(len(ids) for ids in own):
            raise BadInput(f"task {task.name}: problem {index} has an answer of no token")
        if 1 < len(own) <= OPTIONS and all(len(ids) == 1 for ids in own):
            sequences: tuple[ScoredSequence, ...] = (
                ScoredSequence(_joined(head, own[0]), len(head), tuple(int(ids[0]) for ids in own)),
            )
        else:
            sequences = tuple(ScoredSequence(_joined(head, ids), len(head)) for ids in own)
        problems.append(sequences)
    characters = tuple(
        tuple(len(text) - item.delimiter for text in own) for item, own in zip(items, answers, strict=True)
    )
    return PreparedTask(task, tuple(problems), tuple(map(len, answers)), digest.hexdigest(), characters)


def _joined(head: np.ndarray, answer: np.ndarray) -> np.ndarray:
    return np.concatenate([head, answer]).astype(np.int32)


def lengths(context: int) -> tuple[int, ...]:
    """The padded lengths T that sequences are scored at: 16, 24, 32, 48, 64 and so on up to the context."""
    powers = [SMALLEST_LENGTH * 2**power for power in range(32)]
    steps = (length for power in powers for length in (power, power + power // 2))
    return (*(length for length in steps if length < context), context)


def rows_of_batch(length: int, vocabulary: int, shards: int) -> int:
    """Sequences of a batch at padded length `length`, in whole shards."""
    tokens = min(BATCH_TOKENS, LOGITS_OF_A_BATCH // vocabulary)
    return max(1, tokens // length // shards) * shards


@functools.lru_cache(maxsize=32)
def make_task_step(config: ModelConfig, mesh: jax.sharding.Mesh) -> Callable[..., tuple[Any, Any, Any]]:
    """Compile-once-per-shape `(params, tokens_BS, positions_B1, options_BK) -> (nll_BT, likeliest_BT, options_BK)`.

    nll is of each next token in nats, likeliest the token of the greatest logit, and options the log-probability
    of each option as the token at index `positions` of the sequence.
    """

    def step(params: Any, tokens_BS: Any, positions_B1: Any, options_BK: Any) -> tuple[Any, Any, Any]:
        tokens_BT = tokens_BS[:, :-1]
        with products_as(config):
            logits_BTV = with_kernels(Transformer(config, params), tokens_BT.shape)(tokens_BT)
        nll_BT, logz_BT = cross_entropy(logits_BTV, tokens_BS[:, 1:])
        before_B1 = jnp.maximum(positions_B1 - 1, 0)
        here_BV = jnp.take_along_axis(logits_BTV, before_B1[..., None], axis=1)[:, 0]
        chosen_BK = jnp.take_along_axis(here_BV, options_BK, axis=1)
        options_logp_BK = chosen_BK - jnp.take_along_axis(logz_BT, before_B1, axis=1)
        return nll_BT, jnp.argmax(logits_BTV, axis=-1).astype(jnp.int32), options_logp_BK

    place = sharding.batch_sharding(mesh)
    places = (sharding.parameter_shardings(config, mesh), place, place, place)
    compiled = jax.jit(step, in_shardings=places, out_shardings=sharding.everywhere(mesh))
    return lambda params, *batch: compiled(params, *(sharding.spread(mesh, array) for array in batch))


def score_items(
    tasks: Sequence[PreparedTask],
    answer: Answer,
    *,
    context: int,
    vocabulary: int,
    shards: int = 1,
    padded: bool = True,
) -> list[ItemScores]:
    """The scores of every problem of every task, all tasks in the same batches.

    Args:
      answer: the model, as `make_task_step` with its parameters bound.
      context: T, the longest padded length.
      vocabulary: V, bounds the batch so that logits fit in memory.
      shards: devices that a batch is cut over.
      padded: sequences are filled up to a few lengths; else a batch has one length and one start of answers.
    """
    flat = [sequence for task in tasks for problem in task.problems for sequence in problem]
    results = iter(score_sequences(flat, answer, context if padded else 0, vocabulary, shards))
    scores = []
    for task in tasks:
        rows = [
            _score_problem(problem, characters, [next(results) for _ in problem])
            for problem, characters in zip(task.problems, task.characters, strict=True)
        ]
        columns = [np.array(column, np.float64) for column in zip(*rows, strict=True)]
        scores.append(ItemScores(*columns))
    return scores


def score_sequences(
    sequences: Sequence[ScoredSequence],
    answer: Answer,
    context: int,
    vocabulary: int,
    shards: int = 1,
    batch: int | None = None,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(nll of the answer's tokens, likeliest tokens there, log-probability of options) of each sequence.

    Args:
      context: T, the longest padded length; 0 for batches without padding.
      batch: sequences computed at once; else by memory.
    """
    pending = []
    for (length, start), members in _batches(sequences, context).items():
        rows = max(1, batch // shards) * shards if batch else rows_of_batch(length, vocabulary, shards)
        for first in range(0, len(members), rows):
            chosen = members[first : first + rows]
            tokens = np.zeros((rows, length + 1), np.int32)
            positions = np.full((rows, 1), start, np.int32)
            options = np.zeros((rows, OPTIONS), np.int32)
            for row, member in enumerate(chosen):
                sequence = sequences[member]
                tokens[row, : len(sequence.tokens)] = sequence.tokens
                positions[row] = sequence.start
                options[row, : len(sequence.options)] = sequence.options
            pending.append((chosen, answer(tokens, positions, options)))
    results: list[Any] = [None] * len(sequences)
    for chosen, arrays in pending:
        nll_BT, likeliest_BT, options_BK = (np.asarray(array) for array in arrays)
        for row, member in enumerate(chosen):
            sequence = sequences[member]
            span = slice(sequence.start - 1, len(sequence.tokens) - 1)
            results[member] = (
                nll_BT[row, span].astype(np.float64),
                likeliest_BT[row, span],
                options_BK[row, : len(sequence.options)].astype(np.float64),
            )
    return results


def _batches(sequences: Sequence[ScoredSequence], context: int) -> dict[tuple[int, int], np.ndarray]:
    """Which sequences are scored at which padded length; without padding at which length and start of the answer."""
    members: dict[tuple[int, int], list[int]] = {}
    buckets = lengths(context) if context else ()
    for number, sequence in enumerate(sequences):
        length = len(sequence.tokens) - 1
        key = (buckets[int(np.searchsorted(buckets, length))], 0) if context else (length, sequence.start)
        members.setdefault(key, []).append(number)
    return {key: np.array(members[key]) for key in sorted(members)}


def _score_problem(
    problem: Sequence[ScoredSequence],
    characters: Sequence[int],
    results: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[float, ...]:
    """The fields of `ItemScores` for one problem."""
    target = problem[0].tokens[problem[0].start :]
    nll, likeliest, options = results[0]
    if problem[0].options:
        log_probabilities = options
    else:
        log_probabilities = np.array([-own[0].sum() for own in results])
    accuracy, brier, norm = math.nan, math.nan, math.nan
    if len(characters) > 1:
        accuracy, brier = choice_scores(log_probabilities)
        norm = _share_of_best(log_probabilities / np.array(characters))
    hits = likeliest == target
    distance = 0.0 if hits.all() else edit_distance(likeliest.tolist(), target.tolist()) / len(target)
    return (
        float(hits.all()), accuracy, norm, float(hits.mean()), distance, float(nll.sum()), len(target), brier
    )  # fmt: skip


def choice_scores(log_probabilities: np.ndarray) -> tuple[float, float]:
    """Accuracy and Brier score of choosing among answers, the right one first.

    The choice is the most probable answer; where several tie, each gets its share. Brier's score is the sum over
    the choices of (p - y)^2 with p the probabilities normalized over the choices (Brier 1950): 0 best, 2 worst.
    """
    weights = np.exp(log_probabilities - log_probabilities.max())
    probabilities = weights / weights.sum()
    brier = float((1 - probabilities[0]) ** 2 + (probabilities[1:] ** 2).sum())
    return _share_of_best(log_probabilities), brier


def _share_of_best(values: np.ndarray) -> float:
    """1 where the first of them alone is greatest, its share where several are."""
    tied = values == values.max()
    return float(tied[0]) / tied.sum()


def edit_distance(left: Sequence[int], right: Sequence[int]) -> int:
    """Insertions, deletions and replacements that turn one sequence into the other (Levenshtein 1966)."""
    row = list(range(len(right) + 1))
    for index, one in enumerate(left, 1):
        previous, row = row, [index]
        for column, other in enumerate(right, 1):
            row.append(min(previous[column] + 1, row[-1] + 1, previous[column - 1] + (one != other)))
    return row[-1]


def summarize(task: PreparedTask, scores: ItemScores) -> dict[str, Score]:
    """`METRICS` of one task as means over its problems with standard errors.

    exact_match, choice_accuracy, choice_accuracy_norm (of the answer most probable a character, as `acc_norm` of
    lm-evaluation-harness), token_accuracy (mean share of a target's tokens), edit_distance (per target
    token), probability (of an exact match when sampling), nll (nats, whole target), nll_per_token (all nats over
    all tokens), brier; chance and choice_chance are those of a blind guess. Choice scores are left out where no
    problem has choices.
    """
    summary = {
        name: _mean(values)
        for name, values in (
            ("exact_match", scores.exact_match),
            ("choice_accuracy", scores.choice_accuracy),
            ("choice_accuracy_norm", scores.choice_accuracy_norm),
            ("token_accuracy", scores.token_accuracy),
            ("edit_distance", scores.edit_distance),
            ("probability", np.exp(-scores.nll)),
            ("nll", scores.nll),
            ("brier", scores.brier),
        )
        if not np.isnan(values).all()
    }
    total = scores.target_tokens.sum()
    ratio = scores.nll.sum() / total
    residual = scores.nll - ratio * scores.target_tokens
    n = len(residual)
    error = math.sqrt(n / max(1, n - 1) * float(residual @ residual)) / total
    summary["nll_per_token"] = Score(float(ratio), n, error)
    summary["chance"] = Score(task.task.guess, n, 0.0)
    if "choice_accuracy" in summary:
        summary["choice_chance"] = Score(task.choice_chance, n, 0.0)
    return summary


def _mean(values: np.ndarray) -> Score:
    values = values[~np.isnan(values)]
    n = len(values)
    deviation = float(values.std(ddof=1)) if n > 1 else 0.0
    return Score(float(values.mean()), n, deviation / math.sqrt(n))


def score_tasks(
    tasks: Sequence[PreparedTask], config: ModelConfig, mesh: jax.sharding.Mesh, params: Any, context: int
) -> list[ItemScores]:
    """The scores of every problem of a model; call it inside `jax.set_mesh(mesh)`."""
    is_decoder = kind_of(config.architecture) == "decoder"
    step = make_task_step(config, mesh) if is_decoder else unlike_decoders.make_step(config, mesh)
    return score_items(
        tasks,
        lambda tokens, positions, options: step(params, tokens, positions, options),
        context=context,
        vocabulary=config.vocabulary,
        shards=batch_parts(tuple(mesh.shape.values())),
        padded=is_decoder,
    )
