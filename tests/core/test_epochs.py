"""How often a run reads its text, by settings and the length of the train split."""

import json
from pathlib import Path

import pytest

from core.epochs import Reading, known_corpora, reading_of, repeated_line

PLAIN = {"sequence_length": 128, "unique_tokens": 0, "skills": "", "skill_tokens": 1000}
CORPUS = 128 * 100 + 1


@pytest.mark.parametrize(
    ("tokens", "changes", "train_tokens", "expected"),
    [
        (6_400, {}, CORPUS, Reading(12_800, 6_400, 0.5)),
        (12_800, {}, CORPUS, Reading(12_800, 12_800, 1.0)),
        (64_000, {}, CORPUS, Reading(12_800, 12_800, 5.0)),
        (64_000, {}, CORPUS + 127, Reading(12_800, 12_800, 5.0)),  # a window that is not whole is never read
        (64_000, {"unique_tokens": 6_400}, CORPUS, Reading(12_800, 6_400, 10.0)),
        (3_200, {"unique_tokens": 6_400}, CORPUS, Reading(12_800, 3_200, 0.5)),
        (64_000, {"unique_tokens": 6_400}, None, Reading(None, 6_400, 10.0)),
        (64_000, {}, None, None),
        # A fifth of the text is a skill of 1,000 tokens, a twentieth another.
        (10_000, {"skills": "copying@0.2+facts:people=4@0.05"}, CORPUS, Reading(12_800, 9_000, 0.5859)),
        (64_000, {"skills": "copying@0.2"}, CORPUS, Reading(12_800, 13_800, 4.0)),
        (64_000, {"sequence_length": "?"}, CORPUS, None),
    ],
)
def test_distinct_tokens_and_epochs(tokens, changes, train_tokens, expected):
    assert reading_of({**PLAIN, **changes}, tokens, train_tokens) == expected


def test_one_line_says_how_often():
    readings = [reading_of(PLAIN, tokens, CORPUS) for tokens in (6_400, 25_600, 67_840)]
    assert repeated_line(readings) == (
        "repeated text: 2 of 3 runs read their training text more than once, 2 to 5.3 epochs of 12.8k distinct tokens"
    )
    assert repeated_line([*readings[:1], None]) == ""


def test_token_caches_say_how_long_their_train_split_is(tmp_path: Path):
    for name, text in (
        ("a", json.dumps({"fingerprint": "f", "splits": {"train": {"tokens": 77}}})),
        ("b", "torn"),
        ("c", "[1]"),
    ):
        (tmp_path / "tokens" / name).mkdir(parents=True)
        (tmp_path / "tokens" / name / "meta.json").write_text(text)
    assert known_corpora([tmp_path, tmp_path / "absent"]) == {"f": 77}
