"""What emerges with scale, and what only seems to: skills in the training text beside tasks that are held out.

Claim   associative recall and induction appear between one layer and two (Olsson et al. 2022, arXiv 2209.11895);
        memorised facts (asked as often as the text has them), a bigram language and a grammar improve smoothly
Run     python launch.py run emergence
Cost    about 25 minutes on 2 CPU cores; about 25 minutes on one H100 (--preset h100, a plan that has not been run)
Expect  docs/results/emergence.md

Then    python -m analysis.task_table runs/emergence --out runs/emergence/tasks.csv
        python -m analysis.emergence runs/emergence/tasks.csv --out runs/emergence/emergence.json

Sizes rise in steps of about 1.5 in parameters, one layer first, two from the middle on: the transition falls between
two neighbours of the same size, well inside the range of scales. `--preset cpu-shallow` is its counterfactual: one
layer at every one of the sizes, the same text and tokens; there recall must not be called.
"""

import dataclasses
from typing import Any, Literal

from core.errors import BadInput
from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, check_at_least
from model.config import ModelConfig

# In the training text, so positive controls; the corpus keeps the other 36%.
SKILLS = (
    "associative-recall:pairs=4@0.35+induction:length=8@0.10"
    "+facts:facts=600,letters=1@0.10+bigram@0.04+grammar@0.05"
)
POSITIVE = ("associative-recall:pairs=4", "induction:length=8")
SMOOTH = ("facts:asked=text,facts=600,letters=1", "bigram", "grammar")
# The same facts asked all alike: a count in proportion to parameters, so faster than the widest S-curve called sharp.
COUNTED = "facts:facts=600,letters=1"
# Never trained on. At these sizes most stay at chance, and the report says what could have been seen.
HELD_OUT = ("copying:length=3", "reversal:length=3", "python-bracket:depth=1", "python-identifier:names=2")
ALGORITHMS = (
    "addition:digits=2",
    "addition-scratchpad:digits=2",
    "dyck",
    "listops",
    "sorting:length=3",
    "unscrambling",
    "python-sequence",
)

PRESETS: dict[str, dict[str, Any]] = {
    "cpu-shallow": {"widths": (16, 24, 32, 40, 48, 56, 64, 72, 80), "depths": (1,) * 9},
    # Fewer, larger steps of 128 times the parameters: an estimate from the FLOPs, not yet run.
    "h100": {
        "widths": (32, 64, 96, 192, 192, 320, 512, 512, 768),
        "depths": (1, 1, 1, 1, 2, 2, 2, 4, 6),
        "head_width": 32,
        "learning_rate_exponent": 0.25,
        "tokens": 100_663_296,
        "batch_tokens": 32_768,
        "sequence_length": 128,
        "skill_tokens": 16_777_216,
        "compute_dtype": "bfloat16",
        "tasks": (*POSITIVE, *SMOOTH, COUNTED, *HELD_OUT, *ALGORITHMS),
    },
}


def sweep(
    widths: tuple[int, ...] = (16, 24, 32, 40, 32, 40, 48, 56, 64),
    depths: tuple[int, ...] = (1, 1, 1, 1, 2, 2, 2, 2, 2),
    seeds: Seeds = 3,
    tokens: int = 6_291_456,
    batch_tokens: int = 2048,
    sequence_length: int = 64,
    learning_rate: float = 4e-3,
    learning_rate_exponent: float = 0.0,
    head_width: int = 0,
    compute_dtype: Literal["float32", "bfloat16"] = "float32",
    skills: str = SKILLS,
    skill_tokens: int = 2_359_296,
    tasks: tuple[str, ...] = (*POSITIVE, *SMOOTH, COUNTED, *HELD_OUT),
    items: int = 500,
    evaluations: int = 4,
    corpus: str = "pysource",
) -> Sweep:
    """One run for each shape and seed, all on the same number of tokens.

    Args:
      widths, depths: the shapes, in pairs.
      seeds: repetitions that differ in initialization and data order.
      tokens: data size of every run. Recall of 4 pairs came after 3M of these tokens at width 32 in a pilot.
      batch_tokens: tokens of a step.
      sequence_length: context; every problem must fit.
      learning_rate: peak at 100k parameters (piloted at width 32).
      learning_rate_exponent: the peak falls as parameters to this power; 0 keeps it the same for every size.
      head_width: width of an attention head; 0 for two heads whatever the width.
      compute_dtype: of the matrix products.
      skills: tasks in the training text with their shares.
      skill_tokens: distinct tokens of each skill.
      tasks: what is scored.
      items: problems of each task.
      evaluations: at equal distances, the end included.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, seeds=seeds)
    if len(widths) != len(depths):
        raise BadInput(f"depths={list(depths)}: must be as many as widths={list(widths)}")
    data = DataConfig(
        corpus=corpus,
        sequence_length=sequence_length,
        validation_tokens=65_536,
        skills=skills,
        skill_tokens=skill_tokens,
    )
    rule = ScalingRule(
        data=data,
        batch_tokens=batch_tokens,
        learning_rate_at_100k=learning_rate,
        learning_rate_exponent=learning_rate_exponent,
        compute_dtype=compute_dtype,
    )

    def run(width: int, depth: int, seed: int) -> RunSpec:
        heads = width // head_width if head_width else 2
        model = ModelConfig(
            width=width, depth=depth, heads=max(1, heads), kv_heads=max(1, heads), compute_dtype=compute_dtype
        )
        spec = rule.run(params=0, tokens=tokens, seed=seed, evaluations=evaluations, model=model)
        return dataclasses.replace(spec, tasks=tasks, task_items=items)

    shapes = zip(widths, depths, strict=True)
    return Sweep(run(width, depth, seed) for width, depth in shapes for seed in range(seeds))
