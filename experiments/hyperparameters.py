"""Published rules for batch size, weight decay and warmup: one formula, one function, one source. Pure numbers.

The absolute ones (`kaplan`, `deepseek`, `step_law`) were fitted on subword text and models of 10M parameters and more;
on smaller models and on bytes they extrapolate. `power_line` carries a batch size that is known to be good at one data
size over to others, and takes only the exponent from its source.
"""

BATCH_RULES = ("constant", "power_line", "kaplan", "deepseek", "step_law")
WARMUP_RULES = ("fraction", "parameters", "adam")


def kaplan_loss(params: float, tokens: float) -> float:
    """Loss in nats per token of a model without its embedding table (Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5)."""
    return ((8.8e13 / params) ** (0.076 / 0.095) + 5.4e13 / tokens) ** 0.095


def kaplan_batch(params: float, tokens: float) -> float:
    """Critical batch size in tokens at the loss that the same paper expects: 2e8 / L^(1 / 0.21) (eq. 1.4)."""
    return 2e8 / kaplan_loss(params, tokens) ** (1 / 0.21)


def deepseek_batch(flops: float) -> float:
    """Best batch size in tokens at a training compute (Bi et al. 2024, DeepSeek LLM, arXiv 2401.02954, section 3.1)."""
    return 0.292 * flops**0.3271


def step_law_batch(tokens: float) -> float:
    """Best batch size in tokens, whatever the model's size (Li et al. 2025, arXiv 2503.04715)."""
    return 0.58 * tokens**0.571


def power_line_batch(tokens: float, known_batch: float, known_tokens: float) -> float:
    """A batch size that is best at `known_tokens`, for another data size: it grows as D^0.383, whatever the model's
    size (Bergsma et al. 2025, arXiv 2505.13738)."""
    return known_batch * (tokens / known_tokens) ** 0.383


def decay_per_step(batch_tokens: float, tokens: float, timescale: float) -> float:
    """The share of a matrix that a step at the peak removes, so that weights average over `timescale` of the run.

    AdamW's weights are a moving average of its updates over 1 / decay steps (Wang and Aitchison 2024, arXiv
    2405.13698); as a part of the run that is B / (D decay), the timescale of Bergsma et al. 2025 (arXiv 2505.13738),
    who find the best one about constant in the batch size, and falling as a power of D / N.
    """
    return batch_tokens / (tokens * timescale)


def adam_warmup_tokens(beta2: float, batch_tokens: int) -> float:
    """2 / (1 - beta2) steps (Ma and Yarats 2021, arXiv 1910.04209)."""
    return 2 / (1 - beta2) * batch_tokens
