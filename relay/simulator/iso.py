"""Instants as text, the way exchanges write them. No clock is read."""

from datetime import UTC, datetime


def iso_ms(instant_ms: int) -> str:
    """Write Unix milliseconds as ISO 8601 with milliseconds."""
    return _text(instant_ms, f"{instant_ms % 1_000:03d}")


def iso_us(instant_ms: int, extra_us: int = 0) -> str:
    """Write Unix milliseconds as ISO 8601 with microseconds."""
    return _text(instant_ms, f"{instant_ms % 1_000:03d}{extra_us % 1_000:03d}")


def iso_ns(instant_ms: int, extra_ns: int = 0) -> str:
    """Write Unix milliseconds as ISO 8601 with nanoseconds, zeros at the end cut."""
    fraction = f"{instant_ms % 1_000:03d}{extra_ns % 1_000_000:06d}".rstrip("0")
    return _text(instant_ms, fraction)


def iso_s(instant_ms: int) -> str:
    """Write Unix milliseconds as ISO 8601 with whole seconds."""
    return _text(instant_ms, "")


_seconds: dict[int, str] = {}


def _text(instant_ms: int, fraction: str) -> str:
    second = instant_ms // 1_000
    text = _seconds.get(second)
    if text is None:
        _seconds.clear()  # only the running second is asked for again and again
        text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _seconds[second] = text
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"
