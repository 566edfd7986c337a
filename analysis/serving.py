"""The size and data that are cheapest to train and to serve at a given loss.

    python -m analysis.serving fit.json --served 2e12 --like-params 13e9 --out serving.json
    python -m analysis.serving fit.json --served 1e13 --loss 2.05 --inference-price 0.5 --out serving.json

Sardana et al. 2023 (arXiv 2401.00448, eq. 1): among all N and D whose loss by the law is the one asked for, the pair
that makes 6 N D + 2 N S least, with S the tokens that the model will read and write in its life. Without demand, S = 0,
it is the compute-optimal pair of that loss. The paper's section 4 weighs the two kinds of FLOPs by what they cost, as
do `--training-price` and `--inference-price`.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.commands import read_object, write_result
from analysis.fit.fit import Fit
from analysis.fit.prediction import predict_law
from analysis.forecast.predict import MOST
from analysis.laws.base import Law
from analysis.quantiles import finite_quantiles
from core import cli
from core.errors import BadInput

TRAINING_FLOPS, INFERENCE_FLOPS = (
    6.0,
    2.0,
)  # per parameter and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)
SMALLEST, LARGEST = 1e3, 1e18  # parameters that are looked at
GRID = 120  # sizes on the first grid
HALVINGS = 60  # of the interval in log D
DRAWS = 200
REACHED = 0.95  # share of draws that must reach the loss for an interval


@dataclass(frozen=True)
class CheapestModel:
    """Per row of parameters, arrays of shape (R,): NaN where the law does not reach the loss.

    Attributes:
      params, tokens: the cheapest pair. training, inference: its FLOPs. cost: FLOPs times their prices.
    """

    params: np.ndarray
    tokens: np.ndarray
    training: np.ndarray
    inference: np.ndarray
    cost: np.ndarray


def check_law(law: Law) -> None:
    """Refuse (BadInput) a law of anything but size and data."""
    if set(law.inputs) != {"params", "tokens"} or law.target != "loss":
        raise BadInput(
            f"law {law.name} reads {', '.join(law.inputs)} and predicts {law.target}; the cheapest model follows from "
            "a law of the loss in params and tokens, such as chinchilla"
        )


def tokens_for(law: Law, natural_RP: np.ndarray, params_RG: np.ndarray, loss_R: np.ndarray) -> np.ndarray:
    """Tokens at which a model of each size has the loss, (R, G); infinite where no number of tokens is enough."""
    low = np.full(params_RG.shape, 0.0)
    high = np.full(params_RG.shape, np.log(MOST))

    def above(log_tokens: np.ndarray) -> np.ndarray:
        values = predict_law(law, natural_RP, {"params": params_RG, "tokens": np.exp(log_tokens)})
        return values > loss_R[:, None]

    reachable = ~above(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_few = above(middle)
        low, high = np.where(too_few, middle, low), np.where(too_few, high, middle)
    return np.where(reachable, np.exp((low + high) / 2), np.inf)


def cheapest(
    law: Law, natural_RP: np.ndarray, loss_R: np.ndarray, served: float, training_price: float, price: float
) -> CheapestModel:
    """The cheapest pair of each row of parameters: a grid over sizes, then a finer one and the vertex of a parabola."""
    rows = np.arange(natural_RP.shape[0])

    def costs(log_params_RG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        params = np.exp(log_params_RG)
        tokens = tokens_for(law, natural_RP, params, loss_R)
        return params * (TRAINING_FLOPS * training_price * tokens + INFERENCE_FLOPS * price * served), tokens

    grid = np.linspace(np.log(SMALLEST), np.log(LARGEST), GRID)
    log_RG = np.tile(grid, (rows.size, 1))
    step = grid[1] - grid[0]
    for _ in range(2):
        cost, _tokens = costs(log_RG)
        place = np.clip(np.argmin(cost, axis=1), 1, log_RG.shape[1] - 2)
        centre = log_RG[rows, place]
        around = np.stack([cost[rows, place + offset] for offset in (-1, 0, 1)])
        log_RG = centre[:, None] + np.linspace(-step, step, 41)
        last, step = step, step / 20
    with np.errstate(invalid="ignore", divide="ignore"):
        bend = around[0] - 2 * around[1] + around[2]
        move = np.where(bend > 0, (around[0] - around[2]) / (2 * bend), 0.0)
    best = centre + np.clip(np.nan_to_num(move), -1, 1) * last
    cost, tokens = (values[:, 0] for values in costs(best[:, None]))
    missing = ~np.isfinite(cost)
    params = np.where(missing, np.nan, np.exp(best))
    tokens = np.where(missing, np.nan, tokens)
    return CheapestModel(
        params,
        tokens,
        TRAINING_FLOPS * params * tokens,
        INFERENCE_FLOPS * params * served,
        np.where(missing, np.nan, cost),
    )


def loss_of_optimal(law: Law, natural_RP: np.ndarray, params: float) -> np.ndarray:
    """The loss of the compute-optimal model of that size, (R,): where a step in log N and one in log D are worth alike.

    NaN where a law has no such point for that size.
    """
    log_tokens = np.linspace(np.log(1.0), np.log(MOST), 2000)
    tiny = 1e-4

    def at(log_n: float, log_d: np.ndarray) -> np.ndarray:
        return predict_law(
            law, natural_RP, {"params": np.full(log_d.size, np.exp(log_n)), "tokens": np.exp(log_d)}
        )

    log_n = float(np.log(params))
    by_size = at(log_n + tiny, log_tokens) - at(log_n - tiny, log_tokens)
    by_data = at(log_n, log_tokens + tiny) - at(log_n, log_tokens - tiny)
    gap = by_size - by_data  # from above to below 0 as data grows and stops mattering
    crossing = (gap[:, :-1] > 0) & (gap[:, 1:] <= 0)
    place = np.argmax(crossing, axis=1)
    rows = np.arange(gap.shape[0])
    before, after = gap[rows, place], gap[rows, place + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        log_d = log_tokens[place] + (log_tokens[1] - log_tokens[0]) * before / (before - after)
    values = [
        predict_law(law, natural_RP[[row]], {"params": params, "tokens": np.exp(log_d[row])})[0, 0]
        if crossing[row].any()
        else np.nan
        for row in rows
    ]
    return np.array(values)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.serving")


def command(
    fit: Path,
    /,
    *,
    served: float,
    loss: float | None = None,
    like_params: float | None = None,
    training_price: float = 1.0,
    inference_price: float = 1.0,
    level: float = 0.95,
    out: Path | None = None,
) -> None:
    """The size and data that are cheapest to train and to serve at a given loss.

    Args:
      fit: fit.json of a law of params and tokens
      served: tokens that the model will read and write in its life
      loss: that the model must reach
      like_params: or the loss of the compute-optimal model of so many parameters
      training_price: of a FLOP of training, in any unit
      inference_price: of a FLOP of serving, in the same unit
      level: of the intervals
      out: the JSON file to write
    """
    stored, sha256 = read_object(fit, "a fit.json")
    try:
        fitted = Fit.from_json(stored)
        check_law(fitted.law)
    except BadInput as error:
        raise BadInput(f"{fit}: {error}") from None
    if not fitted.known:
        raise BadInput(f"{fit}: {fitted.no_forecast}")
    for name, value, least in (
        ("--served", served, 0.0), ("--training-price", training_price, 1e-9),
        ("--inference-price", inference_price, 0.0), ("--like-params", like_params, 1.0),
    ):  # fmt: skip
        if value is not None and not least <= value <= MOST:
            raise BadInput(f"{name} {value:g}: must be from {least:g} to {MOST:g}")
    if (loss is None) == (like_params is None):
        raise BadInput("give either --loss or --like-params: the model's quality")
    if not 0 < level < 1:
        raise BadInput(f"--level {level:g}: must be between 0 and 1")
    result = cheapest_of_fit(fitted, served, loss, like_params, training_price, inference_price, level)
    if out is not None:
        result |= {"fit": {"path": str(fit), "sha256": sha256}, "input": stored.get("input")}
        write_result(out, result)
    sys.stdout.write("\n".join(sentences(result)) + "\n")


def cheapest_of_fit(
    fit: Fit,
    served: float,
    loss: float | None,
    like_params: float | None,
    training_price: float = 1.0,
    inference_price: float = 1.0,
    level: float = 0.95,
) -> dict[str, Any]:
    """What serving.json holds, without the hashes of the fit.

    Raises:
      BadInput: the law does not reach the loss, or has no compute-optimal model of that size.
    """
    point = np.array([[fit.parameters[name] for name in fit.law.names]])
    draws = point if fit.draws is None else fit.draws[:DRAWS]
    rows = np.concatenate([point, draws])
    targets = (
        np.full(len(rows), loss) if loss is not None else loss_of_optimal(fit.law, rows, like_params or 0.0)
    )
    if not np.isfinite(targets[0]):
        raise BadInput(f"law {fit.law.name} has no compute-optimal model of {like_params:g} parameters")
    best = cheapest(fit.law, rows, targets, served, training_price, inference_price)
    plain = cheapest(fit.law, rows, targets, 0.0, training_price, inference_price)
    if not np.isfinite(best.cost[0]):
        floor = fit.law.floor
        told = f", whose floor {floor} is {fit.parameters[floor]:.4f}" if floor else ""
        raise BadInput(f"no model reaches a loss of {targets[0]:.4f} by law {fit.law.name}{told}")
    with_demand = plain.cost + INFERENCE_FLOPS * inference_price * plain.params * served
    numbers = {
        "params": best.params, "tokens": best.tokens, "tokens_per_param": best.tokens / best.params,
        "training_flops": best.training, "inference_flops": best.inference, "cost": best.cost,
        "saved": 1.0 - best.cost / with_demand,
    }  # fmt: skip
    reached = np.isfinite(best.cost[1:])
    intervals: dict[str, Any] = dict.fromkeys(numbers)
    warnings = [f"fit: {line}" for line in fit.warnings]
    if fit.draws is not None and reached.mean() >= REACHED:
        tails = (0.5 - level / 2, 0.5 + level / 2)
        intervals = {
            name: finite_quantiles(values[1:][reached][:, None], tails)[:, 0].tolist()
            for name, values in numbers.items()
        }
    elif fit.draws is not None:
        warnings.append(f"no intervals: {1 - reached.mean():.0%} of the fit's draws never reach this loss")
    optimal = {
        "params": float(plain.params[0]),
        "tokens": float(plain.tokens[0]),
        "cost": float(with_demand[0]),
    }
    return {
        "law": fit.law.name,
        "loss": float(targets[0]),
        "like_params": like_params,
        "served": served,
        "training_price": training_price,
        "inference_price": inference_price,
        **{name: float(values[0]) for name, values in numbers.items()},
        "intervals": intervals,
        "level": level,
        "compute_optimal": optimal,
        "warnings": warnings,
    }


def sentences(result: Mapping[str, Any]) -> list[str]:
    """The answer in words."""

    def told(name: str, form: str = ".3g") -> str:
        ends = result["intervals"].get(name)
        said = f"{result[name]:{form}}"
        return said if ends is None else f"{said} [{ends[0]:{form}}, {ends[1]:{form}}]"

    plain = result["compute_optimal"]
    more = result["tokens"] / plain["tokens"]
    return [
        f"loss {result['loss']:.4f} with {result['served']:.3g} tokens served: {told('params')} parameters on "
        f"{told('tokens')} tokens, {told('tokens_per_param')} tokens per parameter ({result['level']:.0%} intervals)",
        f"training {result['training_flops']:.3g} FLOPs, serving {result['inference_flops']:.3g} FLOPs",
        f"compute-optimal for this loss: {plain['params']:.3g} parameters on {plain['tokens']:.3g} tokens; the cheaper "
        f"model reads {more:.3g} times the tokens and saves {told('saved', '.1%')} of the whole cost",
        *(f"warning: {line}" for line in result["warnings"]),
    ]


if __name__ == "__main__":
    main()
