"""Slurm: sbatch arrays of a sweep, written from templates/array.sh and sent."""

from launchers.elsewhere import say_copied
from launchers.slurm import submit as slurm
from launchers.slurm.options import slurm_options
from launchers.slurm.queue import require_slurm
from launchers.submit import Request, engine_names


def submit(request: Request) -> str:
    """Send what is neither complete nor queued, once its data are ready."""
    specs, directory, cache, flags = request.specs, request.directory, request.cache, request.flags
    keys = ("partition", "account", "time", "gpus", "nodes", "cpus", "throttle", "checkpoint_seconds", "pack")
    given = {key: getattr(flags, key) for key in keys} | {"tasks_per_node": flags.tasks}
    own = {key: value for key, value in request.site.items() if key not in engine_names()}
    options = slurm_options(own, given)
    if flags.dry_run:
        submission = slurm.dry_run(directory, specs, options, cache)
    else:
        from training.prepare import prepare  # brings JAX, which a dry run is spared

        require_slurm()
        missing = [spec for spec in specs if not slurm.is_complete(directory, spec.run_id)]
        prepare(missing, cache, sweep=directory)
        request.begin()
        say_copied(directory, missing)
        submission = slurm.submit(directory, specs, options, cache)
    if flags.json:
        return slurm.as_json(submission)
    text = slurm.describe(submission, directory, dry=flags.dry_run)
    if submission.sent and not flags.dry_run:
        text += f"\nnext: python launch.py status {directory}"
    return text
