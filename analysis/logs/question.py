"""What the held-out loss of a run asks: nats of unlike questions are never compared, or fitted by one law."""

from collections.abc import Mapping
from typing import Any

from core.identity import UNLESS

# Settings of an objective that change what its held-out loss asks; others change the training alone.
DECIDES = {"span": ("mask_share", "span_mean"), "prefix": ("source_share",)}


def question_of(spec: Mapping[str, Any]) -> str:
    """next_token, masked, or such as span with mask_share 0.15, span_mean 3; from spec.json."""
    tree = {**UNLESS[""], **spec}
    name = str(tree["objective"])
    settings = ", ".join(f"{key} {tree[key]:g}" for key in DECIDES.get(name, ()))
    return f"{name} with {settings}" if settings else name
