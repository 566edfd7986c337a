"""tfds:NAME: any text data set of TensorFlow Datasets by its name, read without TensorFlow."""

import os
import re
from pathlib import Path
from typing import Any

from core.errors import BadInput
from data.source import Source, quiet_tfds

FORM = "tfds:NAME"
DOMAINS = ("all",)

TFDS_NAME = re.compile(r"\w+(/[\w.+-]+)?(:(\d+|\*)\.(\d+|\*)\.(\d+|\*))?")


def signature(rest: str, domain: str) -> list[str]:
    """The data set's own record of its files and their checksums."""
    directory = Path(locate(rest, domain, Path(), None).directory)
    return [
        (directory / "dataset_info.json").read_text(encoding="utf-8"),
        (directory / "features.json").read_text(encoding="utf-8"),
    ]


def locate(rest: str, domain: str, folder: Path, workers: int | None) -> Source:
    """A TFDS data set by name, downloaded and prepared by TFDS where it is not on the machine yet.

    Only names of TFDS's own data sets: for `huggingface:x`, or a name in a community's space, TFDS would fetch code
    and run it, and a spec is data.
    """
    name, given = rest, f"data.corpus='tfds:{rest}'"
    if not TFDS_NAME.fullmatch(name):
        raise BadInput(f"{given}: must be NAME, NAME/CONFIG or NAME/CONFIG:1.0.0, such as tfds:lm1b")
    import tensorflow_datasets as tfds  # 0.5 s, which naming a data set is spared

    prepared = os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR
    try:
        with quiet_tfds():
            builder = tfds.builder(name, data_dir=prepared)
    except tfds.core.DatasetNotFoundError:
        raise BadInput(
            f"{given}: no such data set; must be a name that tfds.list_builders() lists, or one prepared in "
            f"{prepared} (TFDS_DATA_DIR)"
        ) from None
    except (ValueError, AssertionError) as error:
        raise BadInput(f"{given}: {_first_line(error)}") from None
    try:
        with quiet_tfds():
            sources = tfds.data_source(name, data_dir=prepared)
    except NotImplementedError:
        raise BadInput(
            f"{given}: prepared in {builder.data_dir} in another format than array_record; prepare it again "
            'with download_and_prepare(file_format="array_record") in another TFDS_DATA_DIR'
        ) from None
    except (OSError, ImportError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        raise BadInput(
            f"{given}: not prepared in {prepared} and could not be ({type(error).__name__}: "
            f'{_first_line(error)}); where there is network, prepare it with file_format="array_record" and set '
            "TFDS_DATA_DIR"
        ) from None
    return Source(
        directory=os.fspath(builder.data_dir),
        text_feature=_text_feature(builder.info.features, given),
        domain_feature="",
        splits=tuple(split for split in sources if len(sources[split])),
        dropped={},
    )


def _text_feature(features: Any, given: str) -> str:
    import tensorflow_datasets as tfds  # 0.5 s

    names = [name for name, feature in features.items() if isinstance(feature, tfds.features.Text)]
    if "text" in names:
        return "text"
    if len(names) == 1:
        return names[0]
    raise BadInput(
        f'{given}: needs a text feature named "text", or exactly one of any name; it has '
        f"{', '.join(sorted(names)) or 'none'} among {', '.join(sorted(features))}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
