from __future__ import annotations

import pytest

from minimind.units import amount, clock, duration, memory, parse_memory, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 KB"),
        (999_940, "999.9 KB"),
        (999_960, "1.0 MB"),
        (3e12, "3.0 TB"),
    ],
)
def test_size(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.9, "1 h 0 min"),
        (5000, "1 h 23 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3599.9, "1:00:00"), (93_784, "26:03:04")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (987, "987"),
        (999.6, "1.00k"),
        (1234, "1.23k"),
        (12_345, "12.3k"),
        (123_456, "123k"),
        (4.56e6, "4.56M"),
    ],
)
def test_amount(count: float, text: str) -> None:
    assert amount(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 KB"), (10_000, "10 KB"), (500 << 20, "500 MB"), (1 << 30, "1.00 GB"), (int(7.5 * 2**30), "7.50 GB")],
)
def test_memory(count: float, text: str) -> None:
    assert memory(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("8GB", 8 << 30), ("8GiB", 8 << 30), ("7.5GB", 15 << 29), ("512MB", 512 << 20), ("1MiB", 1 << 20)),
        *(("8gb", 8 << 30), ("8 GB", 8 << 30), ("8G", 8 << 30), ("8", 8 << 30), ("7.5", 15 << 29), ("500m", 500 << 20)),
    ],
)
def test_parse_memory(text: str, count: int) -> None:
    assert parse_memory(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        "-1GB",
        "0",
        "512",
        "6144",
        "0GB",
        "",
        "GB",
        "8GBs",
        "8  GB",
        "1e3GB",
        "８GB",
        "8kB",
        "8 ",
        "8GİB",
        "9" * 400 + "GB",
    ],
)
def test_parse_memory_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size of memory: write a number and GB or MB, such as 8GB"):
        parse_memory(text)
