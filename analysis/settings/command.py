"""What each setting that a sweep varied does to the loss, with intervals over repeated seeds.

python -m analysis.settings runs/<sweep> [--question optim.weight_decay] [--out settings.json]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.commands import write_result
from analysis.logs.load import load_sweep
from analysis.settings.answers import answers_of, result_of
from analysis.settings.verdict import noise_words
from core import cli
from core.errors import BadInput


def show(sweep: Path, /, *, question: str | None = None, out: Path | None = None) -> None:
    """Print the answer of each setting.

    Args:
      sweep: the sweep's directory, runs/<sweep>.
      question: the setting that comes first; the sweep's own where it has one.
      out: write everything that was found here, as JSON.
    """
    loaded = load_sweep(sweep)
    answers = answers_of(loaded, loaded.question if question is None else question)
    if not answers:
        raise BadInput(f"{sweep}: its {len(loaded.usable)} finished runs differ in no setting")
    if question and not any(one.asked for one in answers):
        known = ", ".join(one.setting.key for one in answers)
        raise BadInput(f"--question {question}: the runs do not differ in it; they differ in {known}")
    for one in answers:
        if one.verdict is None or one.effects is None:
            lines = [f"{one.setting.key}: {one.why_not}."]
        else:
            lines = [one.verdict.sentence, one.optimum_sentence, noise_words(one.effects)]
            lines += [f"warning: {warning}" for warning in one.verdict.warnings]
        sys.stdout.write("\n".join(filter(None, lines)) + "\n\n")
    if out is not None:
        write_result(out, {"path": str(sweep), "sha256": loaded.sha256, **result_of(answers)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(show, arguments, "python -m analysis.settings", about=(__doc__ or "").partition("\n")[0])
