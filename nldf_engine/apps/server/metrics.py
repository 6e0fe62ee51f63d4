"""Counters in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from typing import Any

from nldf_engine.apps.server.sessions import Sessions

SUMMED = {
    "frames": "Frames that were given out.",
    "late": "Frames that were ready more than 40 ms after they were due.",
    "skipped": "Frames whose picture was left out, as rendering was too far behind.",
    "underflows": "Times that sound ran out in the middle of an utterance.",
    "interruptions": "Interruptions.",
}
QUANTILES = {"p50": "0.5", "p95": "0.95"}


def exposition(sessions: Sessions) -> str:
    """The text of /metrics."""
    living = list(sessions)
    lines: list[str] = []

    def add(name: str, kind: str, text: str, *values: tuple[str, float]) -> None:
        lines.extend([f"# HELP nldf_{name} {text}", f"# TYPE nldf_{name} {kind}"])
        lines.extend(f"nldf_{name}{labels} {value:.10g}" for labels, value in values)

    add("sessions", "gauge", "Sessions that live.", ("", len(living)))
    add("sessions_connected", "gauge", "Sessions with a connection.", ("", sum(s.attached for s in living)))
    add("sessions_begun_total", "counter", "Sessions that were begun.", ("", sessions.begun))
    ends = [(f'{{why="{why}"}}', float(count)) for why, count in sorted(sessions.ends.items())]
    add("sessions_ended_total", "counter", "Sessions that have ended, by the reason.", *ends)
    alive = sum(worker.alive for worker in sessions.pool.workers)
    add("workers", "gauge", "Processes that render.", ("", alive))
    add("worker_restarts_total", "counter", "Workers that were replaced.", ("", sessions.pool.restarts))
    for name, text in SUMMED.items():
        total = getattr(sessions.past, name) + sum(s.counters.get(name, 0) for s in living)
        add(f"{name}_total", "counter", text, ("", total))
    add(
        "queued_seconds", "gauge", "Sound that waits, over all sessions.", ("", sum(s.queued for s in living))
    )
    for name, text in (
        ("latency", "From the newest sound that a frame depends on to the frame."),
        ("work", "To make a frame."),
    ):
        worst = [(f'{{quantile="{mark}"}}', value) for key, mark in QUANTILES.items()
                 if (value := _worst(living, name, key)) is not None]  # fmt: skip
        add(f"{name}_seconds", "gauge", f"{text} The worst session's quantile.", *worst)
    return "\n".join(lines) + "\n"


def _worst(living: list[Any], name: str, key: str) -> float | None:
    known = [session.counters.get(name, {}).get(key) for session in living]
    return max((value for value in known if value is not None), default=None)
