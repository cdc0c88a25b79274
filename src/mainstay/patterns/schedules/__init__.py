"""Schedules: jobs by the clock, exactly one a tick over all workers. Made by `Messages.schedule`."""

from mainstay.patterns.schedules.control import (
    Schedule,
    UnknownSchedule,
    fire_now,
    list_schedules,
    pause,
    resume,
)

__all__ = ["Schedule", "UnknownSchedule", "fire_now", "list_schedules", "pause", "resume"]
