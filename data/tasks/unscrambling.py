"""Unscrambling: put the letters of a word back in order (Brown et al. 2020, arXiv 2005.14165, section 3.9.2)."""

import dataclasses
import random
from typing import ClassVar

from data.tasks.protocol import Item, Task, knob, permuted

# Words of four to ten letters that are frequent in Python source and its documentation.
_TEXT = (
    "return value class self import list name type string object function method argument default error "
    "file path line text number index range result raise except print format length parse input output module "
    "package version option parameter attribute property instance sequence dictionary integer float boolean "
    "exception message current start stop first last next item element width height color table array matrix "
    "vector random sample state process thread queue server client request response socket address buffer "
    "encode decode bytes character pattern match search replace split join strip lower upper sorted reverse "
    "filter reduce lambda yield async await context manager global local static public private abstract "
    "iterator generator decorator variable constant expression statement condition loop branch tree graph node "
    "edge weight layer model train test batch epoch loss gradient optimizer learning rate"
)
WORDS = tuple(_TEXT.split())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unscrambling(Task):
    """`unscramble utrner>return`: words of at least `letters` letters."""

    letters: int = knob(5, 4, 8)
    family: ClassVar[str] = "unscrambling"

    @property
    def words(self) -> tuple[str, ...]:
        """The words that are asked for."""
        return tuple(word for word in WORDS if len(word) >= self.letters)

    @property
    def guess(self) -> float:
        """Any word of the right length: on average the number of lengths over the number of words."""
        return len({len(word) for word in self.words}) / len(self.words)

    def draw(self, chance: random.Random) -> Item:
        word = chance.choice(self.words)
        (scrambled,) = permuted(word, chance, 1)
        others = [other for other in self.words if other != word and len(other) == len(word)]
        same = chance.sample(others, min(3, len(others)))
        return Item(f"unscramble {scrambled}>", f"{word}\n", tuple(f"{other}\n" for other in same))
