"""Learning rate as a function of tokens."""

import math

from training.spec import OptimConfig


def learning_rate(optim: OptimConfig, tokens: int, step_tokens: int, total_tokens: int) -> float:
    """Learning rate of the step that reads tokens [tokens, tokens + step_tokens).

    Warmup is evaluated at the step's end and decay at its start, so that neither the first nor the last
    step is spent at rate zero.

    Args:
      optim: peak, schedule and lengths in tokens.
      tokens: training tokens seen before the step.
      step_tokens: tokens of the step.
      total_tokens: D, of the whole run.

    Source: cosine, Hoffmann et al. 2022 (arXiv 2203.15556); warmup-stable-decay with 1 - sqrt, Hägele et
    al. 2024 (arXiv 2405.18392), equation 1.
    """
    peak, final = optim.learning_rate, optim.final_fraction
    if tokens + step_tokens <= optim.warmup_tokens:
        return peak * (tokens + step_tokens) / optim.warmup_tokens
    if optim.schedule == "constant":
        return peak
    if optim.schedule == "cosine":
        progress = max(0.0, (tokens - optim.warmup_tokens) / max(1, total_tokens - optim.warmup_tokens))
        return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))
    decay_start = total_tokens - optim.cooldown_tokens
    if optim.cooldown_tokens == 0 or tokens <= decay_start:
        return peak
    progress = (tokens - decay_start) / optim.cooldown_tokens
    remaining = 1 - (math.sqrt(progress) if optim.cooldown_shape == "sqrt" else progress)
    return peak * (final + (1 - final) * remaining)
