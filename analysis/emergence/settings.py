"""Every constant that decides a verdict, in one place, fixed before any table is read."""

from dataclasses import dataclass

MINIMUM_SCALES = 5
PRESENCE_LEVEL = 0.01
PRESENCE_GAIN = 0.1
WIDEST_SHARE = 0.5  # of the range of scales: the widest rise that is called sharp


@dataclass(frozen=True)
class Settings:
    """What a verdict depends on besides the table.

    Attributes:
      w0: the definition of "sharp": a rise is sharp when 10%-90% of it takes fewer decades of scale than this, and
        fewer than half of the decades that the table spans: over less than that any rise is steep.
      onset_width: the smooth S-curves that the onset test must not flag take at least this many decades
        from 10% to 90%, and have their middle in the lower half of the observed scales. An S-curve that is
        later than that is what "delayed" means.
      nats_per_decade: what stands for a decade where scale is minus the pre-training loss. From 1e15 to 1e22
        FLOPs the loss of well-trained models falls by about half a nat a decade (Gadre et al. 2024,
        arXiv 2403.08540, table of 104 models).
      alpha: false discovery rate across tasks, and the level of every statement of significance.
      metric_alpha: level at which a continuous metric counts as broken. It is smaller than alpha so that a
        smooth loss is called smooth in more than 95% of cases.
      bootstrap: replicates of a bootstrap that runs to its end.
      seed: of every random number.
    """

    w0: float = 2.0
    onset_width: float = 3.0
    nats_per_decade: float = 0.5
    alpha: float = 0.05
    metric_alpha: float = 0.01
    bootstrap: int = 1999
    seed: int = 0

    def unit(self, axis: str) -> float:
        """The length on the scale coordinate that counts as one decade: 1, or some nats on the loss axis."""
        return self.nats_per_decade if axis == "loss" else 1.0

    def sharp_width(self, axis: str, span: float) -> float:
        """What holds for scales that span so much of the scale coordinate: `w0`, at most half of the span."""
        return min(self.w0 * self.unit(axis), WIDEST_SHARE * span)
