"""Which tokenizer gives the most for the same compute?  Bytes, characters, words and byte-pair encoding.

Claim   at equal training FLOPs, longer tokens pay as long as the head that they need does not eat the compute
Run     python launch.py run tokenizer
        python -m analysis.report runs/tokenizer
Cost    7 minutes on 2 CPU cores that other programs used too, and 2 for three token caches the first time
Expect  docs/results/tokenizer.md

Nats per token say nothing across tokenizers: everything is compared in bits per byte of held-out text. The body of the
network is the same for all; the head grows with the vocabulary and its FLOPs count, so that a larger vocabulary reads
fewer tokens. A word tokenizer writes "unknown" for rare words and need not spell them: its bits per byte are too low by
what spelling would cost. Contexts are equally long in tokens, so not in bytes.
"""

from core.errors import BadInput
from data.config import SMALLEST_SIZES, DataConfig
from experiments.grids import over_tokens, tokens_for
from experiments.scaling import ScalingRule
from experiments.spec import Seeds, Sweep, check_at_least


def sweep(
    tokenizers: tuple[str, ...] = ("byte", "char", "word:2048", "bpe:512", "bpe:2048"),
    budgets: tuple[float, ...] = (1e11, 2e11, 4e11, 8e11),
    widths: tuple[int, ...] = (32, 64),
    depth: int = 2,
    characters: int = 256,
    seeds: Seeds = 1,
    trunk: bool = True,
    corpus: str = "pysource",
) -> Sweep:
    """For each tokenizer and width, one run a budget.

    Args:
      tokenizers: byte, char, word:SIZE or bpe:SIZE.
      budgets: training FLOPs of one run, `exact` convention of the ledger, the head included.
      widths: of the body, multiples of 16.
      depth: blocks of every body.
      characters: rows of the embedding table of char; at least the distinct characters of the corpus.
      seeds: repetitions that differ in initialization and data order.
      trunk: share the constant part among the budgets of a tokenizer and width.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, seeds=seeds, depth=depth, characters=characters)
    for name, chosen in (("tokenizers", tokenizers), ("budgets", budgets), ("widths", widths)):
        if not chosen:
            raise BadInput(f"{name}=[]: at least one is needed")
    for width in widths:
        if width < 16 or width % 16:
            raise BadInput(f"widths={width}: must be a multiple of 16")
    runs = []
    for tokenizer in tokenizers:
        # Tokenizers see different windows of the held-out text: a long slice keeps that below the differences sought.
        data = DataConfig(corpus=corpus, tokenizer=tokenizer, validation_tokens=262_144)
        rule = ScalingRule(data=data, vocabulary=_rows(tokenizer, characters))
        for width in widths:
            model = rule.shape(width, depth)
            for seed in range(seeds):
                runs += over_tokens(rule, model, tokens_for(rule, model, budgets), seed, trunk)
    return Sweep(runs)


def _rows(tokenizer: str, characters: int) -> int:
    """Rows of the embedding table that this tokenizer needs."""
    kind, _, size = tokenizer.partition(":")
    if kind in SMALLEST_SIZES:
        return int(size)
    if kind == "file":
        raise BadInput(f"tokenizers={tokenizer}: must be byte, char, word:SIZE or bpe:SIZE")
    return 256 if kind == "byte" else characters
