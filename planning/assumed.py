"""Speed on a device that is not here and was never measured: a share of the peak that its vendor states."""

from core.errors import BadInput
from core.suggest import unknown
from model.kernels import chips
from planning.memory import device_of
from planning.throughput import FORWARD_SHARE, Estimate
from training.cost import counted
from training.spec import RunSpec


def chip_named(typed: str) -> str:
    """The name in model/kernels/chips.py that a --device means.

    Raises:
      BadInput: there is none.
    """
    name = chips.name_of(typed)
    if name is None:
        raise unknown("--device=", typed, chips.short_names())
    return name


class AssumedSpeed:
    """Tokens a second at a model FLOPs utilization: mfu x peak / FLOPs a token, counted as PaLM does.

    (Chowdhery et al. 2022, arXiv 2204.02311, appendix B; runs record their own mfu by the same count.) The peak is that
    of what matrix products of the network are computed in on this device. Compilation, saving and the start of a
    worker are not in it.

    Args:
      name: of a chip. mfu: in (0, 1].
    """

    def __init__(self, name: str, mfu: float):
        self.name, self.mfu = name, mfu

    @property
    def said(self) -> str:
        """One line for the user."""
        return (
            f"speed assumed: {100 * self.mfu:g}% of the peak of {self.name} (--mfu); compiling, saving and starting "
            "are not in the times"
        )

    def estimate(self, spec: RunSpec) -> Estimate:
        """Of the shape of a run. Raises BadInput where the vendor states no peak for it."""
        precision = chips.products(spec.model, device_of(self.name)).name
        peak = chips.peak_flops(self.name, precision)
        if peak is None:
            raise BadInput(f"--device={self.name}: no peak is known of products in {precision}")
        rate = self.mfu * peak / counted(spec)["flops_per_token"]["palm"]
        evaluation = spec.data.validation_tokens / (FORWARD_SHARE * rate)
        return Estimate(
            tokens_per_second=rate,
            first_seconds=0.0,
            load_seconds=0.0,
            run_seconds=evaluation,
            evaluation_seconds=evaluation,
            start_seconds=0.0,
            peak_bytes=None,
            basis="assumed",
            why=f"{100 * self.mfu:g}% of {self.name}'s {peak / 1e12:g} TFLOP/s in {precision}",
        )
