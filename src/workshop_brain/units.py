"""Time in integer nanoseconds since the epoch (UTC), and the few conversions used everywhere."""

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
NS_PER_MIN = 60 * NS_PER_S
NS_PER_H = 3600 * NS_PER_S
NS_PER_DAY = 24 * NS_PER_H


def seconds_to_ns(seconds: float) -> int:
    """Seconds as whole nanoseconds, rounded to the nearest.

    >>> seconds_to_ns(1.5)
    1500000000
    """
    return round(seconds * NS_PER_S)


def ns_to_seconds(ns: int) -> float:
    """Nanoseconds as seconds.

    >>> ns_to_seconds(2_500_000_000)
    2.5
    """
    return ns / NS_PER_S
