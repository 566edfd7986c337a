"""One command line for scaling experiments: plan, run, submit, look, measure.

python launch.py plan quickstart            what it would train, cost and teach
python launch.py plan --budget 1e18 --target 1e21       the grid to forecast it
python launch.py plan runs/quickstart --next 5 --target 1e15   what to add next
python launch.py run quickstart      trains it here; again = resume, skip done
python launch.py run quickstart --set model.width=96    any field of every run
python launch.py submit quickstart --backend slurm        the same on a cluster
python launch.py status              every sweep and the command that resumes it
python launch.py status runs/quickstart      done, running, queued, failed, lost
python launch.py watch runs/quickstart        a page that shows how it goes
python launch.py mirror runs/quickstart --to tensorboard     in TensorBoard, W&B
python launch.py cancel runs/quickstart       stop it, keep it stopped and saved
python launch.py doctor runs/quickstart       what is wrong; --repair mends it
python launch.py backfill runs/quickstart --tasks copying   more held-out tasks
python launch.py bench quickstart     its speed here; alone: beside PyTorch
python launch.py sample runs/quickstart/RUN --prompt "def "      what it writes
python launch.py export runs/quickstart/RUN --format huggingface --out DIR
python launch.py import DIR --name NAME       such a folder, as a run
python -m analysis.report runs/quickstart    every fit and figure, from the logs
"""

import sys

from core import begin

if __name__ == "__main__":
    begin.verb(sys.argv[1:], resumed=("run", "backfill"))

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from core import cli
from core.errors import EXIT_COMPLETE, exit_on_bad_input
from core.suggest import unknown


def plan(arguments: Sequence[str]) -> int:
    """Show what a sweep would train, cost and teach, or choose runs; train nothing."""
    from planning.flags import PlanFlags, chooses_runs

    if chooses_runs(arguments):
        from planning.budget import main as choose_runs

        return choose_runs(arguments)
    from experiments.command import choose
    from planning.plan import show

    return show(*choose("plan", arguments, PlanFlags, cli.about(plan, __doc__)))


def run(arguments: Sequence[str]) -> int:
    """Train an experiment here; the same command again resumes what is missing."""
    from experiments.command import choose
    from launchers.local.command import RunFlags, train
    from planning.begin import show_as_run, write_down

    study, flags = choose("run", arguments, RunFlags, cli.about(run, __doc__))
    if flags.dry_run:
        return show_as_run(study, flags)
    return train(study.specs, study.held_back, study.directory, study.cache, flags, lambda: write_down(study))


def submit(arguments: Sequence[str]) -> int:
    """Send an experiment to a cluster; the same command again sends what is missing."""
    from experiments.command import choose
    from launchers.held_back import due_now
    from launchers.submit import SubmitFlags, send_and_say
    from planning.begin import write_down

    study, flags = choose("submit", arguments, SubmitFlags, cli.about(submit, __doc__))
    due = due_now(study.specs, study.held_back, study.directory)
    return send_and_say(due, study.directory, study.cache, flags, lambda: write_down(study))


def bench(arguments: Sequence[str]) -> int:
    """Measure training speed here: of an experiment's shapes, or beside PyTorch."""
    from bench.command import main as measure

    return measure(arguments, cli.about(bench, __doc__))


def cancel(directory: Path, /) -> int:
    """Stop a submitted sweep until it is submitted again; everything is saved.

    Args:
      directory: the sweep's directory, runs/<sweep>.
    """
    from launchers.slurm.submit import cancel_and_say

    return cancel_and_say(directory)


def doctor(directory: Path, /, *, repair: bool = False, json: bool = False) -> int:
    """Explain what is wrong in a sweep's folder; status 1 where something is left.

    Args:
      directory: the sweep's directory, runs/<sweep>.
      repair: mend what can be mended without training anything.
      json: as JSON.
    """
    from launchers.doctor.examine import examine_and_show

    return examine_and_show(directory, repair=repair, as_json=json)


OF_EXPERIMENTS = {verb.__name__: verb for verb in (plan, run, submit, bench)}
# Verbs that are the `main` of a module, which reads its own flags.
OF_MODULES = {
    "backfill": "training.evaluate.backfill",
    "sample": "training.sample",
    "export": "training.export",
    "import": "training.import_run",
    "status": "launchers.sweeps",
    "mirror": "launchers.mirror.command",
    "watch": "launchers.watch.command",
}
OF_SWEEPS: dict[str, Callable[..., int]] = {verb.__name__: verb for verb in (cancel, doctor)}


@exit_on_bad_input()
def main(arguments: Sequence[str] | None = None) -> int:
    """Call the verb, which imports what it needs so that the others answer at once; returns the exit status."""
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb in cli.HELP:
        print(__doc__)
        return EXIT_COMPLETE
    if verb in OF_EXPERIMENTS:
        return OF_EXPERIMENTS[verb](rest)
    if verb in OF_MODULES:
        return cast(int, importlib.import_module(OF_MODULES[verb]).main(rest))
    if verb not in OF_SWEEPS:
        raise unknown("command", verb, [*OF_EXPERIMENTS, *OF_MODULES, *OF_SWEEPS])
    of_sweep = OF_SWEEPS[verb]
    return cli.parse(of_sweep, rest, f"python launch.py {verb}", about=cli.about(of_sweep, __doc__))


if __name__ == "__main__":
    sys.exit(main())
