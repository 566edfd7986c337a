"""The flags that every command with a table has, in one place."""

import dataclasses
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from analysis.logs.table import TableReading
from core import cli
from core.errors import BadInput


@dataclasses.dataclass(frozen=True)
class TableFlags:
    """How a table is read.

    Attributes:
      column: read column HEADER as NAME, e.g. loss=val_loss
      drop_missing: leave out rows in which a needed cell is empty, NaN or a word such as crashed
    """

    column: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=HEADER")] = ()
    drop_missing: bool = False

    def reading(self) -> TableReading:
        """The same for the reader of tables.

        Raises:
          BadInput: a column that is not NAME=HEADER, or a name that is given twice.
        """
        named: dict[str, str] = {}
        for name, header in cli.pairs(self.column, "--column"):
            if named.setdefault(name, header) != header:
                raise BadInput(f"--column {name}={header}: {name} is read from {named[name]} already")
        return TableReading(rename=named, drop_missing=self.drop_missing)


@dataclasses.dataclass(frozen=True)
class RunTableFlags(TableFlags):
    """How a table of runs is read.

    Attributes:
      column: read column HEADER as NAME, e.g. loss=val_loss
      drop_missing: leave out rows in which a needed cell is empty, NaN or a word such as crashed
      best_of: of the rows that are equal in these columns keep the one of the lowest loss, e.g. params tokens
    """

    best_of: tuple[str, ...] = ()

    def reading(self) -> TableReading:
        names = [name.strip() for text in self.best_of for name in text.split(",") if name.strip()]
        return dataclasses.replace(super().reading(), best_of=tuple(dict.fromkeys(names)))


Flags = Annotated[TableFlags, arg(name="")]
RunFlags = Annotated[RunTableFlags, arg(name="")]
