"""What is wrong with a value, a table or a file of JSON."""

import random

TEXTS = [
    "",
    " ",
    "-",
    "--",
    "é漢字",
    "a b",
    "x" * 300,
    "../x",
    "/",
    "a\nb",
    "\t",
    "nan",
    "null",
    "[]",
    "{}",
    "'",
    '"',
    "\x1b[31m",
    "\udce9",
    "none",
    "%s",
    "$HOME",
    "*",
]
NUMBERS = [
    "0",
    "-1",
    "1",
    "0.5",
    "-0.0",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1e308",
    "1e-308",
    "1e-45",
    "5e-324",
    "1e18",
    "10" + "0" * 29,
    "2147483648",
    "9223372036854775808",
    "1e5",
    "1_0",
    "0x10",
    "1e",
    "1.5",
    "true",
    "100k",
    "1,5",
    "٣",
    "9" * 5000,
]


def spoiled_text(text: str, chance: random.Random) -> str:
    """A table, JSON or TOML with one value replaced, a line lost or doubled, or its end torn off."""
    lines = text.split("\n")
    how, place = chance.random(), chance.randrange(len(lines))
    if how < 0.1:
        return text[: chance.randrange(len(text))]
    if how < 0.15:
        lines.insert(place, lines[place])
    elif how < 0.2:
        del lines[place]
    else:
        for mark in (",", ": ", "="):
            if mark in lines[place]:
                cells = lines[place].split(mark)
                cells[chance.randrange(len(cells))] = chance.choice(
                    [*NUMBERS, *TEXTS, "[1]", "{}", "null", '"x"']
                )
                lines[place] = mark.join(cells)
                break
        else:
            lines[place] = chance.choice([*NUMBERS, *TEXTS])
    return "\n".join(lines).encode("utf-8", "replace").decode()


def nearby(text: str, chance: random.Random) -> str:
    """The same text with one digit changed: mostly another right value."""
    places = [place for place, letter in enumerate(text) if letter.isdecimal()]
    place = chance.choice(places) if places else 0
    return f"{text[:place]}{chance.randrange(1, 10)}{text[place + 1 :]}"
