"""One command line for scaling experiments: plan, run, status, bench.

  python launch.py plan quickstart                         what it would train, cost and teach; trains nothing
  python launch.py plan --budget 1e18 --target 1e21        the grid for so many FLOPs that forecasts the target best
  python launch.py plan runs/quickstart --next 5 --target 1e15    the runs that would teach most, given those that exist
  python launch.py run quickstart                          trains it here; again = resume, skip what is done
  python launch.py run quickstart --set model.width=96     any field of every run, by dotted key
  python launch.py submit quickstart --backend slurm       the same grid on a cluster; again = send only what is missing
  python launch.py status runs/quickstart                  done, running, queued, failed, lost, missing
  python launch.py cancel runs/quickstart                  stop it and keep it stopped; everything is saved
  python launch.py doctor runs/quickstart                  what is wrong in a sweep's folder; --repair mends it
  python launch.py backfill runs/NAME --tasks copying      score held-out tasks on runs that are trained already
  python launch.py bench quickstart                        how fast its shapes train here: what plan's times are from
  python launch.py bench                                   tokens per second, utilization, beside PyTorch
  python -m analysis.report runs/quickstart                every fit and figure again, from logs alone

`python launch.py run EXPERIMENT --help` shows the arguments of one experiment.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from core import cli as flags
from core.errors import EXIT_COMPLETE, BadInput, exit_on_bad_input
from core.rundir import SweepDirectory

VERBS = ("plan", "run", "submit", "status", "cancel", "doctor", "backfill", "bench")


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are one line."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see {self.prog} --help)")


def common_arguments(verb: str, experiment: str) -> Parser:
    """Flags that every experiment has beside its own."""
    parser = Parser(prog=f"python launch.py {verb} {experiment}", add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--preset", help="a named set of arguments that the experiment defines (cpu, h100, ...)"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="any RunSpec field, by dotted key",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of sweeps (default: runs)")
    parser.add_argument(
        "--name", default=experiment, help="the sweep's folder in it (default: the experiment's name)"
    )
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="corpora, tokens, compiled programs")
    if verb == "plan":
        from planning import plan as planning

        planning.add_arguments(parser)
    elif verb == "submit":
        from launchers.submit import add_arguments

        add_arguments(parser)
    else:
        parser.add_argument(
            "--workers", type=int, help="worker processes (default: one an accelerator or CPU core)"
        )
        parser.add_argument(
            "--cores-per-worker", type=int, default=1, help="CPU threads of one worker (default: 1)"
        )
        if verb == "bench":
            parser.add_argument("--seconds", type=float, default=3.0, help="of training, of each timed run")
            return parser
        parser.add_argument(
            "--mesh", default="", help="devices of each run by axis: data=2,fsdp=4,tensor=1 (default: by rule)"
        )
        parser.add_argument(
            "--checkpoint-seconds", type=float, default=60.0, help="least time between checkpoints"
        )
        parser.add_argument(
            "--profile", action="store_true", help="trace five steps of every run, for ui.perfetto.dev"
        )
        parser.add_argument(
            "--pack",
            default="auto",
            help="runs of one shape as one program: auto (as many as this device gains from; none on a CPU), off, "
            "or the most of a pack (default: auto)",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be trained, train nothing")
    return parser


def parse_sweep(experiment: Any, preset: str | None, arguments: Sequence[str], prog: str) -> Any:
    """The experiment's Sweep for its own command-line flags, which are the arguments of its sweep function.

    Raises:
      BadInput: an unknown preset, flag or value.
    """
    function = experiment.sweep
    if preset is not None:
        import functools

        if preset not in experiment.presets:
            allowed = ", ".join(experiment.presets) or "none: this experiment has no presets"
            raise BadInput(f"--preset={preset}: allowed are {allowed}")
        function = functools.partial(function, **experiment.presets[preset])
    return flags.parse(function, arguments, prog)


def settings(items: Sequence[str]) -> dict[str, str]:
    """{"model.width": "96"} from ["model.width=96"]."""
    pairs = [item.partition("=") for item in items]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise BadInput(f"--set {key}: must be KEY=VALUE, such as model.width=96")
    return {key: value for key, _, value in pairs}


def sweep_directory(options: argparse.Namespace) -> Path:
    """runs/<name>; the name stays inside the folder."""
    if not options.name or options.name in (".", "..") or "/" in options.name or "\\" in options.name:
        raise BadInput(f"--name={options.name!r}: must be a plain folder name")
    return options.runs / options.name


def plan_or_run(verb: str, arguments: Sequence[str]) -> int:
    """plan, run, submit and bench: the experiment's sweep, then show it, train it, send it or measure it."""
    if verb == "plan":
        from planning import budget as planning_budget

        if planning_budget.belongs_here(arguments):
            return planning_budget.main(arguments)
    from experiments import registry

    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: python launch.py {verb} EXPERIMENT [flags]\n\nexperiments:")
        for name, headline in registry.headlines().items():
            print(f"  {name:<16} {headline}")
        return EXIT_COMPLETE if arguments else _missing_experiment(verb)
    name, *rest = arguments
    if name.startswith("-"):
        raise BadInput(f"{name}: the experiment comes first, as in python launch.py {verb} quickstart")
    experiment = registry.load(name)
    parser = common_arguments(verb, name)
    if "-h" in rest or "--help" in rest:
        print(experiment.docstring, parser.format_help(), sep="\n\n")
    options, own = parser.parse_known_args(rest)
    prog = f"python launch.py {verb} {name}"
    sweep = parse_sweep(experiment, options.preset, own, prog).with_settings(settings(options.set))
    directory = sweep_directory(options)
    if verb == "submit":
        from launchers.submit import submit

        specs = list(sweep)
        if experiment.held_back is not None:
            specs = due_now(specs, experiment.held_back(sweep), directory)
        return submit(specs, directory, options)
    if verb == "plan" or getattr(options, "dry_run", False):
        from planning import plan as planning

        planning.show(name, sweep, directory, planning.with_defaults(options))
        return EXIT_COMPLETE
    if verb == "bench":
        from planning import plan as planning

        planning.bench(name, sweep, options)
        return EXIT_COMPLETE
    if experiment.held_back is not None:
        return forecast_then_run(sweep, experiment.held_back(sweep), directory, options)
    return run(sweep, directory, options)


def due_now(specs: list[Any], held: Sequence[str], directory: Path) -> list[Any]:
    """The runs of a sweep with held-back ones that may start: those, too, once the others are complete and fitted."""
    from launchers import order

    order.hold_back(directory, specs, held)
    small = [spec for spec in specs if spec.run_id not in held]
    runs = SweepDirectory(directory)
    if not all(runs.run(spec.run_id).is_complete() for spec in small):
        return small
    if not runs.forecast.exists() and order.register(directory):
        raise BadInput(f"{directory}: the forecast cannot be written; the larger runs stay held back")
    return specs


def forecast_then_run(sweep: Any, held: Sequence[str], directory: Path, options: argparse.Namespace) -> int:
    """Train the small runs, write the forecast, only then train the larger ones; score it and draw it."""
    from launchers import order

    specs = list(sweep)
    for _ in range(2):
        due = due_now(specs, held, directory)
        ended = run(due, directory, options)
        if ended:
            return ended
        if len(due) == len(specs):
            return order.score(directory)
    raise AssertionError("unreachable: the small runs are complete")


def _missing_experiment(verb: str) -> NoReturn:
    raise BadInput(f"{verb} needs an experiment, as in python launch.py {verb} quickstart")


def run(sweep: Any, directory: Path, options: argparse.Namespace) -> int:
    """Prepare the data, train what is missing, sum up."""
    from launchers.local.launch import LocalOptions, launch
    from launchers.packs import parse_pack
    from training.prepare import prepare

    if not options.checkpoint_seconds > 0:
        raise BadInput(f"--checkpoint-seconds={options.checkpoint_seconds}: must be positive")
    pack, devices = parse_pack(options.pack), 1
    if options.mesh:
        import math

        from training.processes.mesh import parse_mesh

        devices = math.prod(parse_mesh(options.mesh).values())
    if options.mesh or options.profile:
        flag = f"--mesh={options.mesh}" if options.mesh else "--profile"
        if pack not in ("auto", 1):
            raise BadInput(f"--pack={options.pack}: {flag} is for runs that train alone; must be auto or off")
        pack = 1
    missing = [spec for spec in sweep if not SweepDirectory(directory).run(spec.run_id).is_complete()]
    for name, record in prepare(missing, options.cache).items():
        from training.evaluate.tasks import overlap_line

        print(overlap_line(name, record))
    summary = launch(
        directory,
        list(sweep),
        LocalOptions(
            cache_root=options.cache,
            workers=options.workers,
            cores_per_worker=options.cores_per_worker,
            checkpoint_seconds=options.checkpoint_seconds,
            mesh=options.mesh,
            devices_per_worker=devices,
            profile=options.profile,
            pack=pack,
        ),
    )
    counts = f"{len(summary.complete)} trained, {len(summary.skipped)} already complete"
    for word, group in (("failed", summary.failed), ("refused", summary.refused), ("stopped", summary.stopped)):
        counts += f", {len(group)} {word}" if group else ""
    print(f"{directory}: {counts}")
    for run_id, cause in {**summary.failed, **summary.refused}.items():
        print(f"error: {run_id}: {cause}", file=sys.stderr)
    if summary.stopped:
        print("stopped: everything is saved; the same command resumes it", file=sys.stderr)
    elif not summary.status:
        print(f"next: python -m analysis.report {directory}")
    return summary.status


def status(arguments: Sequence[str]) -> int:
    """Show where every run of a sweep stands."""
    from launchers.status import show_status

    parser = Parser(prog="python launch.py status", description="Where every run of a sweep stands.")
    parser.add_argument("directory", type=Path, help="runs/<sweep>")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    show_status(options.directory, as_json=options.json)
    return EXIT_COMPLETE


def cancel(arguments: Sequence[str]) -> int:
    """Take a sweep out of Slurm's queue."""
    from launchers.slurm.submit import cancel as cancel_jobs

    parser = Parser(prog="python launch.py cancel", description="Stop a submitted sweep and keep it stopped.")
    parser.add_argument("directory", type=Path, help="runs/<sweep>")
    options = parser.parse_args(arguments)
    count = cancel_jobs(options.directory)
    print(f"{options.directory}: {count} runs taken out of the queue; running ones save and end")
    return EXIT_COMPLETE


def doctor(arguments: Sequence[str]) -> int:
    """Examine a sweep's folder."""
    from launchers.doctor.examine import examine_and_show

    parser = Parser(
        prog="python launch.py doctor", description="Find and explain what is wrong in a sweep's folder."
    )
    parser.add_argument("directory", type=Path, help="runs/<sweep>")
    parser.add_argument(
        "--repair", action="store_true", help="mend what can be mended without training anything"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    return examine_and_show(options.directory, repair=options.repair, as_json=options.json)


def backfill(arguments: Sequence[str]) -> int:
    """Score tasks on the complete runs of a sweep."""
    from training.evaluate import backfill as scoring

    return scoring.main(arguments)


def bench(arguments: Sequence[str]) -> int:
    """Measure training speed here: of an experiment's shapes, or beside PyTorch."""
    if arguments and not arguments[0].startswith("-"):
        return plan_or_run("bench", arguments)
    from bench import speed as benchmark

    return benchmark.main(list(arguments)) or EXIT_COMPLETE


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the verb and call it; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return EXIT_COMPLETE
    verb, *rest = arguments
    with exit_on_bad_input():
        if verb in ("plan", "run", "submit"):
            return plan_or_run(verb, rest)
        if verb == "status":
            return status(rest)
        if verb == "cancel":
            return cancel(rest)
        if verb == "doctor":
            return doctor(rest)
        if verb == "backfill":
            return backfill(rest)
        if verb == "bench":
            return bench(rest)
        raise BadInput(f"unknown command {verb!r}: allowed are {', '.join(VERBS)}")
    return EXIT_COMPLETE


if __name__ == "__main__":
    sys.exit(main())
