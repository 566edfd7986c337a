"""`python launch.py submit`: the flags that every engine shares, and the way to each engine."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import EXIT_COMPLETE, BadInput
from training.spec import RunSpec

BACKENDS = ("slurm", "skypilot", "jobset")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of submit; each wins over the same key of the site file."""
    parser.add_argument("--backend", default="slurm", help=f"one of {', '.join(BACKENDS)} (default: slurm)")
    parser.add_argument(
        "--site", type=Path, help="TOML file about the cluster; docs/guides/clusters.md shows one"
    )
    parser.add_argument("--partition", help="Slurm partition")
    parser.add_argument("--account", help="Slurm account")
    parser.add_argument("--time", help="limit of one attempt: minutes, 4:00:00 or 1-12 (default: 4:00:00)")
    parser.add_argument("--gpus", type=int, help="GPUs of each node (default: 0)")
    parser.add_argument("--nodes", type=int, help="nodes of one run (default: 1)")
    parser.add_argument(
        "--tasks", type=int, help="processes of one run on each node, which share its GPUs (default: 1)"
    )
    parser.add_argument("--cpus", type=int, help="CPU cores of one process (default: 1)")
    parser.add_argument("--throttle", type=int, help="runs, or packs, at the same time (default: no limit)")
    parser.add_argument(
        "--pack",
        help="runs of one shape as one program: auto (as measured by earlier runs; none on a CPU), off, or the most of "
        "a pack (default: auto)",
    )
    parser.add_argument("--checkpoint-seconds", type=float, help="least time between checkpoints (default: 60)")
    parser.add_argument("--dry-run", action="store_true", help="write what would be sent, send nothing")
    parser.add_argument("--json", action="store_true", help="what was sent, as JSON")


def submit(specs: Sequence[RunSpec], directory: Path, options: argparse.Namespace) -> int:
    """Send a sweep to the engine that the flags name.

    Raises:
      BadInput: an unknown engine, a wrong flag or site key, or an engine that does not answer.
    """
    from launchers.order import check_order
    from launchers.packs import parse_pack
    from launchers.slurm.options import read_site

    check_order(directory, specs)
    if options.backend not in BACKENDS:
        raise BadInput(f"--backend={options.backend}: allowed are {', '.join(BACKENDS)}")
    if options.pack is not None:
        parse_pack(options.pack)
    site = read_site(options.site)
    if options.backend == "slurm":
        return _submit_slurm(specs, directory, options, site)
    table = site.get(options.backend, {})
    if options.pack is not None and isinstance(table, dict):
        site = {**site, options.backend: {**table, "pack": options.pack}}
    if not options.dry_run:
        raise BadInput(
            f"--backend={options.backend}: its files are written here, not sent; add --dry-run, look at them, and give "
            "them to its own command line"
        )
    folder = directory / options.backend
    try:
        if options.backend == "skypilot":
            from launchers import skypilot

            paths = skypilot.write(
                folder, directory.name, specs, skypilot.skypilot_options(site), options.cache
            )
        else:
            from launchers import jobset

            paths = jobset.write(folder, directory.name, specs, jobset.jobset_options(site), options.cache)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror})") from None
    print(json.dumps([str(path) for path in paths]) if options.json else f"{len(paths)} files in {folder}")  # noqa: T201
    return EXIT_COMPLETE


def _submit_slurm(
    specs: Sequence[RunSpec], directory: Path, options: argparse.Namespace, site: dict[str, Any]
) -> int:
    from launchers.slurm import submit as slurm
    from launchers.slurm.options import slurm_options

    keys = ("partition", "account", "time", "gpus", "nodes", "cpus", "throttle", "checkpoint_seconds", "pack")
    flags = {key: getattr(options, key) for key in keys} | {"tasks_per_node": options.tasks}
    chosen = slurm_options(site, flags)
    if options.dry_run:
        submission = slurm.dry_run(directory, specs, chosen, options.cache)
    else:
        from launchers.slurm.queue import require_slurm
        from training.prepare import prepare

        require_slurm()
        prepare([spec for spec in specs if not slurm.is_complete(directory, spec.run_id)], options.cache)
        submission = slurm.submit(directory, specs, chosen, options.cache)
    text = (
        slurm.as_json(submission)
        if options.json
        else slurm.describe(submission, directory, dry=options.dry_run)
    )
    print(text)  # noqa: T201
    if submission.sent and not options.json and not options.dry_run:
        print(f"next: python launch.py status {directory}")  # noqa: T201
    return EXIT_COMPLETE
