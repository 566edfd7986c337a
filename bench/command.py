"""`python launch.py bench`: of an experiment's shapes, or alone, beside PyTorch."""

from collections.abc import Sequence


def main(arguments: Sequence[str], about: str) -> int:
    """Measure; `about` is the head of --help."""
    if not arguments or arguments[0].startswith("-"):
        from bench import speed

        return speed.main(list(arguments))
    from experiments.command import choose
    from planning.bench import BenchFlags, measure_and_keep

    study, flags = choose("bench", arguments, BenchFlags, about)
    return measure_and_keep(study.name, study.specs, study.cache, flags)
