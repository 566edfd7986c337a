"""Manifests for engines that are not run here: how a template is filled in, and what every manifest shares."""

import functools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.codec import canonical_json
from core.order import firsts, generations
from training.spec import RunSpec

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).resolve().parent / "templates"

# All but what YAML lets stand in a text as it is; \U and 8 hex digits says any of it.
NOT_PRINTABLE = re.compile(
    "[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def quoted(value: str | int) -> str:
    """A text, whole number or truth value as YAML. A text is a double-quoted JSON string, which YAML reads as the
    same text, so that no value can end its line or become a number; a text of several lines is one too."""
    if not isinstance(value, str | int):
        raise TypeError(f"{value!r}: a manifest holds texts, whole numbers and truth values")
    return NOT_PRINTABLE.sub(lambda match: f"\\U{ord(match[0]):08X}", json.dumps(value, ensure_ascii=False))


def fill_in(template: str, **values: object) -> str:
    """The text of launchers/templates/<template>. Every {{ value }} in it is written by `quoted`."""
    return _templates().get_template(template).render(values)


@functools.cache
def _templates() -> "jinja2.Environment":
    import jinja2  # only what writes a manifest pays for loading it

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        finalize=quoted,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


# One run, or the runs of one pack, in one job.
Pack = Sequence[RunSpec]


def run_command(python: str, sweep: str, cache: str, pack: Pack) -> list[str]:
    """The command that trains one run or a pack on a machine that has no sweep's folder yet: specs travel with it."""
    program = "training.run" if len(pack) == 1 else "training.pack"
    directories = [f"{sweep}/{spec.run_id}" for spec in pack]
    specs = [word for spec in pack for word in ("--spec", canonical_json(spec))]
    return [python, "-m", program, *directories, "--cache", cache, *specs]


def job_name(pack: Pack) -> str:
    """The run_id of a run alone; of a pack the first one's with the number of its runs."""
    return pack[0].run_id if len(pack) == 1 else f"{pack[0].run_id}-pack{len(pack)}"


def families(packs: Iterable[Pack]) -> list[list[Pack]]:
    """Packs that share a trunk or the run that they begin with, in the order in which they must run.

    A pack belongs to the family of each run that one of its own follows, and so do the packs of these.
    """
    packs = list(packs)
    specs = [spec for pack in packs for spec in pack]
    first_of, generation = firsts(specs), generations(specs)
    family_of: dict[str, list[Pack]] = {}  # by the name of the run that all others follow
    for pack in packs:
        names = {first_of[spec.run_id]: None for spec in pack}
        first, *others = {id(family): family for name in names if (family := family_of.get(name))}.values() or (
            [],
        )
        for family in others:
            first += family
            names |= {first_of[spec.run_id]: None for other in family for spec in other}
        first.append(pack)
        family_of |= dict.fromkeys(names, first)
    distinct = {id(family): family for family in family_of.values()}
    return [sorted(family, key=lambda pack: generation[pack[0].run_id]) for family in distinct.values()]
