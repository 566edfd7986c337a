"""`python -m training.loss_by_position runs/<sweep>`: held-out loss by position in the context, of a sweep."""

import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from core import cli
from core.bounds import Allowed
from core.errors import BadInput
from core.files import write_json
from core.rundir import LOSS_BY_POSITION, SweepDirectory
from training.processes.start import configure_jax


def bins(length: int) -> list[tuple[int, int]]:
    """First and last position of each bin, counted from 1: 1, 2, 3-4, 5-8, ..., each twice as wide as the last."""
    edges = [1, 2]
    while edges[-1] <= length:
        edges.append(2 * (edges[-1] - 1) + 1)
    return [(first, min(after - 1, length)) for first, after in itertools.pairwise(edges)]


def by_position(nats_ST: np.ndarray, weights_ST: np.ndarray) -> list[dict[str, float]]:
    """Mean loss of each bin of positions, nats per token; its standard error treats sequences as independent.

    Args:
      nats_ST: of each target of each sequence. weights_ST: 0 where a target does not count.
    """
    rows = []
    for first, last in bins(nats_ST.shape[1]):
        weights_S = weights_ST[:, first - 1 : last].sum(axis=1)
        nats_S = (nats_ST * weights_ST)[:, first - 1 : last].sum(axis=1)
        nats_S, weights_S = nats_S[weights_S > 0], weights_S[weights_S > 0]
        total, count = weights_S.sum(), len(weights_S)
        mean = nats_S.sum() / total
        residual_S = nats_S - mean * weights_S
        stderr = float(math.sqrt(count / max(1, count - 1) * float(residual_S @ residual_S)) / total)
        rows.append({"first": first, "last": last, "value": float(mean), "n": int(total), "stderr": stderr})
    return rows


def measured(directory: Path, cache_root: Path, most_tokens: int) -> list[dict[str, float]]:
    """Of one run, on the slice that its val/loss is of.

    Raises:
      BadInput: its checkpoint cannot be read, or its objective does not predict the next token.
    """
    import jax

    from data.cache import open_or_build
    from data.loader import validation_batches
    from model.kernels.device import products_as
    from training.load import load
    from training.objectives.next_token import held_out_nats

    model = load(directory, cache=cache_root)
    if model.spec.objective != "next_token":
        raise BadInput(f"{directory}: objective={model.spec.objective}; must be next_token")
    length = model.spec.data.sequence_length

    @jax.jit
    def nats(params: Any, tokens_BS: Any) -> Any:
        with products_as(model.config):
            return held_out_nats(model.config, params, tokens_BS)

    found, counted, left = [], [], most_tokens
    cache = open_or_build(model.spec.data, cache_root)
    with jax.set_mesh(model.mesh):
        for batch in validation_batches(cache, model.spec.data, batch_sequences=max(1, 16_384 // length)):
            if left <= 0:
                break
            found.append(np.asarray(nats(model.params, batch.tokens), np.float64))
            counted.append(np.asarray(batch.weights, np.float64))
            left -= batch.tokens.shape[0] * length
    return by_position(np.concatenate(found), np.concatenate(counted))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    cli.command(command, arguments, "python -m training.loss_by_position")


def command(
    sweep: Path, /, *, cache: Path = Path("cache"), most_tokens: Annotated[int, Allowed(1, 10**9)] = 1_000_000
) -> None:
    """Held-out loss by position in the context: loss_by_position.json of every complete run, and a table.

    Args:
      sweep: runs/NAME
      cache: corpora, tokens, compiled programs
      most_tokens: of the held-out slice that are read
    """
    if not sweep.is_dir():
        raise BadInput(f"{sweep}: no such sweep")
    complete = [run.path for run in SweepDirectory(sweep).runs() if run.is_complete()]
    if not complete:
        raise BadInput(f"{sweep}: no complete run")
    configure_jax(cache)
    for run in complete:
        rows = measured(run, cache, most_tokens)
        write_json(run / LOSS_BY_POSITION, {"bins": rows})
        told = "  ".join(f"{row['first']}-{row['last']} {row['value']:.3f}" for row in rows)
        sys.stdout.write(f"{run.name}  {told}\n")


if __name__ == "__main__":
    main()
