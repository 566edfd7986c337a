"""Tokenizers at equal compute, in bits per byte of held-out text."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from analysis.figures.families import Family, Panel, colours, family_panels
from analysis.logs.load_curves import Curves
from analysis.logs.load_run import Run, at, number
from analysis.logs.lossy import loses_text, lost_share
from analysis.report.section import File, Paragraph, Picture, Rows, Section
from analysis.report.study import Study, tokenizers
from core.numbers import percent, short_count
from core.records import BITS_PER_BYTE

ORDER = 20
ANSWERS = ("tokenizer",)
RESULT = File("tokenizers.json")
PICTURE = Picture(
    "tokenizers",
    "Held-out bits per byte against training FLOPs, one line a tokenizer, one panel a body of the network.",
)

SAME_BUDGET = 1.05  # FLOPs within this factor count as equal
LABEL = "held-out bits per byte"


@dataclasses.dataclass(frozen=True)
class TokenizerRun:
    """One run: what it read, what it cost, how well it predicts a byte of held-out text.

    lost is the share of that text that the tokenizer does not give back; None where the run does not say.
    """

    tokenizer: str
    body: tuple[float, float]
    vocabulary: float
    params: float
    tokens: float
    flops: float
    bits_per_byte: float
    stderr: float
    bytes_per_token: float
    lost: float | None = None

    @property
    def lossy(self) -> bool:
        return loses_text(self.tokenizer, self.lost)


def section(study: Study) -> Section | None:
    """A table and a figure in bits per byte, where the runs use more than one tokenizer."""
    if tokenizers(study.sweep) < 2:
        return None
    runs = scored(study.sweep.usable, study.evaluations)
    names = list(dict.fromkeys(one.tokenizer for one in runs))
    if len(names) < 2:
        return None
    budgets = _budgets(runs)
    return Section(
        title="Tokenizers at equal compute",
        said=(_sentence(runs, budgets[-1]),) if budgets else (),
        answer=_sentence(runs, budgets[-1]) if budgets else "",
        blocks=(
            Paragraph(
                "Held-out bits per byte, the lower the better: nats per token are not comparable. FLOPs are those of "
                "the whole network, the head included, so that a larger vocabulary reads fewer tokens. Of each "
                "tokenizer the best body is shown (width x depth). Each tokenizer is scored on its own windows of the "
                "held-out split: plus or minus one standard error over them. A model is not charged for what its "
                "tokenizer loses, such as words that it does not know, so that number is too low."
            ),
            Rows(
                ("tokenizer", "vocabulary", "bytes a token", *(f"{budget:.2g} FLOPs" for budget in budgets)),
                [_row(name, runs, budgets) for name in names],
            ),
            _every_run(runs),
            PICTURE.by(lambda: family_panels(_panels(runs, names))),
        ),
        results={RESULT: {"budgets": budgets, "runs": [dataclasses.asdict(one) for one in runs]}},
    )


def _every_run(runs: Sequence[TokenizerRun]) -> Rows:
    return Rows.of(
        sorted(runs, key=lambda one: (one.flops, one.bits_per_byte)),
        {
            "tokenizer": lambda one: one.tokenizer,
            "body": lambda one: f"{one.body[0]:g}x{one.body[1]:g}",
            "parameters": lambda one: short_count(one.params),
            "tokens": lambda one: short_count(one.tokens),
            "FLOPs": lambda one: f"{one.flops:.3g}",
            "bits per byte": lambda one: f"{one.bits_per_byte:.4f}",
            "standard error": lambda one: f"{one.stderr:.4f}",
        },
    )


def scored(runs: Sequence[Run], evaluations: Curves) -> list[TokenizerRun]:
    """The runs that have a final bits per byte, in the order of their specifications' tokenizers and sizes."""
    frame = evaluations.frame.filter(name=BITS_PER_BYTE).drop_nulls(["tokens", "stderr"])
    errors = {
        (str(run), float(tokens)): float(stderr)
        for run, tokens, stderr in zip(frame["run"], frame["tokens"], frame["stderr"], strict=True)
    }
    found = []
    for run in runs:
        tokenizer, bits, loss = at(run.spec, "data", "tokenizer"), run.final(BITS_PER_BYTE), run.final()
        params, flops, tokens = run.count(), run.flops(), run.tokens
        if not (isinstance(tokenizer, str) and bits and loss and params and flops and tokens):
            continue
        width, depth = (number(at(run.spec, "model", name)) or 0.0 for name in ("width", "depth"))
        found.append(
            TokenizerRun(
                tokenizer=tokenizer,
                body=(width, depth),
                vocabulary=number(at(run.spec, "model", "vocabulary")) or 0.0,
                params=params,
                tokens=tokens,
                flops=flops,
                bits_per_byte=bits,
                stderr=errors.get((run.run, tokens), float("nan")),
                bytes_per_token=loss / np.log(2) / bits,
                lost=lost_share(run),
            )
        )
    return sorted(
        found, key=lambda one: (one.bytes_per_token, one.vocabulary, one.tokenizer, one.params, one.tokens)
    )


def _budgets(runs: Sequence[TokenizerRun]) -> list[float]:
    """Budgets that runs share, smallest first: the geometric mean of those within a few percent."""
    groups: list[list[float]] = []
    for flops in sorted(one.flops for one in runs):
        if groups and flops <= groups[-1][0] * SAME_BUDGET:
            groups[-1].append(flops)
        else:
            groups.append([flops])
    return [float(np.exp(np.mean(np.log(group)))) for group in groups if len(group) > 1]


def _best(name: str, runs: Sequence[TokenizerRun], budget: float) -> TokenizerRun | None:
    there = [
        one for one in runs if one.tokenizer == name and 1 / SAME_BUDGET <= one.flops / budget <= SAME_BUDGET
    ]
    return min(there, key=lambda one: one.bits_per_byte, default=None)


def _row(name: str, runs: Sequence[TokenizerRun], budgets: Sequence[float]) -> tuple[str, ...]:
    own = [one for one in runs if one.tokenizer == name]
    cells = []
    for budget in budgets:
        best = _best(name, runs, budget)
        cells.append(
            ""
            if best is None
            else f"{best.bits_per_byte:.3f} ± {best.stderr:.3f} ({best.body[0]:g}x{best.body[1]:g})"
        )
    return (name, f"{own[0].vocabulary:g}", f"{np.mean([one.bytes_per_token for one in own]):.2f}", *cells)


def _sentence(runs: Sequence[TokenizerRun], budget: float) -> str:
    names = list(dict.fromkeys(one.tokenizer for one in runs))
    found = [best for name in names if (best := _best(name, runs, budget)) is not None]
    ranked = sorted((one for one in found if not one.lossy), key=lambda one: one.bits_per_byte)
    beside = ", ".join(f"{one.tokenizer} {one.bits_per_byte:.3f}" for one in found if one.lossy)
    tail = f" Not comparable, since what the tokenizer loses is not spelled: {beside}." if beside else ""
    if len(ranked) < 2:
        return f"At {budget:.2g} FLOPs only {len(ranked)} tokenizers spell every text.{tail}"
    best, second = ranked[0], ranked[1]
    gap = second.bits_per_byte - best.bits_per_byte
    error = float(np.hypot(best.stderr, second.stderr))
    doubt = "" if gap > 2 * error else ", within two standard errors of each other"
    others = ", ".join(f"{one.tokenizer} {one.bits_per_byte:.3f}" for one in ranked[1:])
    return (
        f"At {budget:.2g} FLOPs {best.tokenizer} gives {best.bits_per_byte:.3f} bits per byte; {others}. The first "
        f"two differ by {percent(gap / best.bits_per_byte)}{doubt}.{tail}"
    )


def _panels(runs: Sequence[TokenizerRun], names: Sequence[str]) -> list[Panel]:
    bodies = sorted({one.body for one in runs})
    hidden = sorted({one.tokenizer for one in runs if one.lossy}) if not all(one.lossy for one in runs) else []
    note = "bars: one standard error" + (f"; {', '.join(hidden)} not drawn: not comparable" if hidden else "")
    tints = dict(zip(names, colours(len(names)), strict=True))
    panels = []
    for body in bodies[:4]:
        drawn = []
        for name in [name for name in names if name not in hidden]:
            own = sorted(
                (one for one in runs if one.tokenizer == name and one.body == body), key=lambda one: one.flops
            )
            if own:
                errors = np.nan_to_num([one.stderr for one in own])
                points = [(one.flops, one.bits_per_byte) for one in own]
                drawn.append(Family.joined(name, points, tints[name], reach=np.stack([errors, errors])))
        panels.append(
            Panel(
                f"Width {body[0]:g}, depth {body[1]:g}",
                drawn,
                "training FLOPs C, the head included",
                LABEL,
                note,
                key="tokenizer",
                flops=True,
            )
        )
    return panels
