"""From scale to a task: the loss of a run to come, then what that loss is worth, with the uncertainty of both steps.

    python -m analysis.fit runs.csv --law chinchilla --out loss.json
    python -m analysis.fit tasks.csv --law accuracy_from_bits --robust l2 --out accuracy.json
    python -m analysis.downstream loss.json accuracy.json --params 7e9 --tokens 1e12 --out downstream.json

Gadre et al. 2024 (arXiv 2403.08540) take `overtrained` for the loss and `error_from_loss` for the average error, both
with --robust l2 --space linear. Bhagia et al. 2024 (arXiv 2412.04403) take `chinchilla` for the bits per byte of the
right answer and `accuracy_from_bits` for the accuracy, whose table has one row more: an accuracy of 1 at 0 bits.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import UseAppendAction, arg

from analysis.commands import write_result
from analysis.fit.fit import Fit
from analysis.fit.prediction import predict_law
from analysis.forecast.predict import MOST, read_object
from analysis.laws.base import Law
from core import cli
from core.errors import BadInput

PAIRED_DRAWS = 2000


@dataclass(frozen=True)
class Chain:
    """Two fits: `first` predicts a loss, which is the one input of `second`.

    Raises:
      BadInput: fits that do not follow one another.
    """

    first: Fit
    second: Fit

    def __post_init__(self) -> None:
        for fit, wanted in ((self.first, False), (self.second, True)):
            if _leads_on(fit.law) is not wanted:
                raise BadInput(
                    f"law {fit.law.name} predicts {fit.law.target}: the first fit predicts the loss, the second "
                    "what a loss is worth"
                )
        if len(self.second.law.inputs) != 1:
            raise BadInput(
                f"law {self.second.law.name} reads {', '.join(self.second.law.inputs)}, not a loss alone"
            )

    @property
    def link(self) -> str:
        """What the second law calls the loss that it reads."""
        return self.second.law.inputs[0]

    def predict(self, columns: Mapping[str, Any]) -> np.ndarray:
        """The target of the second fit at new inputs of the first, one value a row."""
        return self.second.predict({self.link: self.first.predict(columns)})

    def predict_interval(
        self, columns: Mapping[str, Any], level: float = 0.95, noise: bool = True, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends, one a row.

        Draws of both fits are paired at random (they were fitted to different rows), and with `noise` each step's
        residuals are drawn too: the first's pass through the second's slope.

        Raises:
          BadInput: a fit without draws, or a level outside 0 and 1.
        """
        if not 0 < level < 1:
            raise BadInput(f"level {level!r} is not allowed; it lies between 0 and 1")
        rng = np.random.default_rng(seed)
        first_RP, second_RP = (_drawn(fit, rng) for fit in (self.first, self.second))
        loss_Rn = predict_law(self.first.law, first_RP, columns)
        if noise:
            added = rng.choice(self.first.residual_quantiles, loss_Rn.shape)
            loss_Rn = loss_Rn * np.exp(added) if self.first.objective.space == "log" else loss_Rn + added
        value_Rn = predict_law(self.second.law, second_RP, {self.link: loss_Rn})
        if noise:
            added = rng.choice(self.second.residual_quantiles, value_Rn.shape)
            value_Rn = value_Rn * np.exp(added) if self.second.objective.space == "log" else value_Rn + added
        low, high = np.quantile(value_Rn, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        return low, high


def _leads_on(law: Law) -> bool:
    """Whether a law starts from a loss: to a score, or to the loss on another corpus."""
    return law.target != "loss" or law.inputs == ("source_loss",)


def _drawn(fit: Fit, rng: np.random.Generator) -> np.ndarray:
    """PAIRED_DRAWS natural parameters of a fit, with replacement, (R, P)."""
    if fit.draws is None:
        raise BadInput(f"the fit of law {fit.law.name} has no draws: its table does not determine an interval")
    return fit.draws[rng.integers(0, len(fit.draws), PAIRED_DRAWS)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.downstream")


def command(
    loss_fit: Path,
    task_fit: Path,
    /,
    *,
    params: float,
    tokens: float,
    input: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=VALUE")] = (),
    level: float = 0.9,
    seed: int = 0,
    out: Path,
) -> None:
    """What a run to come will score on a task: its loss by one fit, the accuracy or
    error at that loss by another, and an interval that holds the errors of both.

    Args:
      loss_fit: fit.json of a law of the loss
      task_fit: fit.json of accuracy_from_bits, error_from_loss, loss_to_loss or another law of one loss
      params: N of the run to come
      tokens: D of the run to come
      input: another input of the law of the loss, such as unique_tokens=1e9
      level: of the interval
      seed: of the draws behind the interval
      out: the JSON file to write
    """
    inputs = {"params": params, "tokens": tokens, **cli.numbers(input, "--input")}
    for name, value in inputs.items():
        if not 0 < value <= MOST:
            raise BadInput(f"{name} {value:g}: must be positive and finite, at most {MOST:g}")
    if seed < 0:
        raise BadInput(f"--seed {seed}: must be at least 0")
    (first, first_source), (second, second_source) = _read_fit(loss_fit), _read_fit(task_fit)
    chain = Chain(first, second)
    if not first.known:
        raise BadInput(f"{loss_fit}: {first.no_forecast}")
    ends = chain.predict_interval(inputs, level, seed=seed)
    low, high = (float(end[0]) for end in ends)
    prediction, loss = float(chain.predict(inputs)[0]), float(first.predict(inputs)[0])
    if not np.isfinite([prediction, low, high]).all():
        raise BadInput(f"the fits give no finite prediction at {params:g} params, {tokens:g} tokens")
    target = second.law.target
    warnings = [f"{fit.law.name}: {warning}" for fit in (first, second) for warning in fit.warnings]
    write_result(
        out,
        {
            "laws": [first.law.name, second.law.name],
            "inputs": inputs,
            chain.link: loss,
            "target": target,
            "prediction": prediction,
            "interval": [low, high],
            "level": level,
            "seed": seed,
            "fits": [first_source, second_source],
            "warnings": warnings,
        },
    )
    sys.stdout.write(
        f"{chain.link} {loss:.4f}, {target} {prediction:.4f}, {level:.0%} interval {low:.4f} to {high:.4f}, at "
        f"{params:g} params and {tokens:g} tokens\n" + "".join(f"  warning: {line}\n" for line in warnings)
    )


def _read_fit(path: Path) -> tuple[Fit, dict[str, str]]:
    """A fit, and its path and SHA-256 as result files name what they were made from."""
    stored, sha256 = read_object(path, "a fit.json")
    try:
        return Fit.from_json(stored), {"path": str(path), "sha256": sha256}
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


if __name__ == "__main__":
    main()
