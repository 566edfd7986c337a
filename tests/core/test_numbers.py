"""Numbers as they are said: short, never rounded up to a fourth digit, and with the right unit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.numbers import BYTES, finite, number, short_bytes, short_count, span


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0.5, "0.5"),
        (5, "5"),
        (999, "999"),
        (1000, "1k"),
        (10_240, "10.2k"),
        (999_600, "1M"),
        (999_900, "1M"),
        (1_048_576, "1.05M"),
        (1.5e9, "1.5B"),
        (2.5e9, "2.5B"),
        (3e12, "3T"),
        (2e15, "2e+15"),
    ],
)
def test_counts_are_readable(count, text):
    assert short_count(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1024, "1 KiB"),
        (2**20, "1 MiB"),
        (1010 * 2**20, "0.986 GiB"),
        (1.5 * 2**30, "1.5 GiB"),
        (80 * 2**30, "80 GiB"),
        (3 * 2**40, "3 TiB"),
    ],
)
def test_bytes_are_said_in_binary_units(count, text):
    assert short_bytes(count) == text


@given(st.integers(0, 999 * 2**40))
def test_bytes_have_three_digits_and_are_right_to_half_a_percent(count):
    text, unit = short_bytes(count).split()
    assert "e" not in text
    assert math.isclose(float(text) * dict(BYTES).get(unit, 1), count, rel_tol=0.006)


@pytest.mark.parametrize("value", [None, True, "1", [], math.nan, math.inf, 10**400])
def test_what_is_no_finite_number_is_none(value):
    assert finite(value) is None


def test_numbers_and_intervals_of_a_report():
    values = (0.12345, 12345.6, 1234567.0, math.nan)
    assert [number(value) for value in values] == ["0.123", "12346", "1.23e+06", "unknown"]
    assert span((1.0, 2.5)) == "1 to 2.5"
    assert span((1.0, math.inf)) == "no finite interval"
