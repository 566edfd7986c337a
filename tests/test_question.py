"""A question of one's own, from a fresh folder: an experiment, plan, run, and a report that answers it first."""

import re

import pytest

from tests.support.documents import run, write_checkout

EXPERIMENT = '''
"""How much weight decay?

Claim   some is better than none
Run     python launch.py run decay
Cost    30 seconds on 2 CPU cores
"""

from experiments.scaling import ScalingRule
from experiments.spec import Seeds, Sweep


def sweep(decays: tuple[float, ...] = (0.1, 30.0), seeds: Seeds = 2, tokens: int = 16_384) -> Sweep:
    """One run for each weight decay, width and seed.

    Args:
      decays: weight decays, coupled to the learning rate.
      seeds: repetitions that differ in initialization and data order.
      tokens: data size of every run.
    """
    rules = [ScalingRule(weight_decay=decay) for decay in decays]
    return Sweep(
        [rule.run(0, tokens, seed, model=rule.shape(width, 1)) for rule in rules for width in (16, 32)
         for seed in range(seeds)],
        question="optim.weight_decay",
    )
'''


@pytest.mark.long
def test_a_question_is_planned_trained_and_answered_first(tmp_path):
    checkout = write_checkout(tmp_path, None)
    (checkout / "experiments" / "decay.py").write_text(EXPERIMENT.lstrip())
    assert len(EXPERIMENT.splitlines()) <= 40
    text = "--set data.corpus=text:my_text data.validation_tokens=4096"
    plan = run(f"python launch.py plan decay {text} --name decay", checkout)
    assert plan.returncode == 0 and "8 runs of 2 shapes" in plan.stdout, plan.stderr
    done = run(f"python launch.py run decay {text} --name decay", checkout)
    assert done.returncode == 0 and "8 trained" in done.stdout, done.stderr
    told = run("python -m analysis.report runs/decay", checkout)
    assert told.returncode == 0, told.stderr
    # The first sentence of terminal and page, and the first figure, are about the question.
    first = " ".join(told.stdout.split("•")[1].split())
    assert re.match(r"optim\.weight_decay (0\.1|30) (is best|has the lowest loss)", first), first
    page = (checkout / "runs" / "decay" / "report" / "report.html").read_text()
    answer = re.search(r'<p class="answer">(.*?)</p>', page)
    assert answer and answer[1].startswith("optim.weight_decay")
    figure = re.search(r"<figcaption>(.*?)</figcaption>", page)
    assert figure and "weight_decay" in figure[1]
