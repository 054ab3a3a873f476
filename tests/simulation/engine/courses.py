"""The kinds of course that a schedule may take, and which seeds take which."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from tests.simulation.archives.course import ArchiveCourse
from tests.simulation.archives.schedule import ArchiveSchedule, make_archive_schedule, smaller
from tests.simulation.copies.course import Course
from tests.simulation.copies.large import LargeCopyCourse, LargeCopySchedule, make_large_copy_schedule
from tests.simulation.copies.large import smaller as smaller_large
from tests.simulation.copies.schedule import Schedule, make_schedule
from tests.simulation.events.course import EventCourse
from tests.simulation.events.schedule import EventSchedule, make_event_schedule
from tests.simulation.last_copies.course import LastCopyCourse
from tests.simulation.last_copies.schedule import LastCopySchedule, make_last_copy_schedule
from tests.simulation.last_copies.schedule import smaller as fewer_acts
from tests.simulation.nights.course import NightCourse
from tests.simulation.nights.schedule import NightSchedule, fewer_asked, make_night_schedule


class CourseKind(NamedTuple):
    """`make`: the schedule of a seed, without what is too slow for thousands. `smaller`: schedules a step simpler."""

    schedule: type
    make: Callable[[int], Any]
    course: Callable[[Any], Any]
    smaller: Callable[[Any], Iterable[Any]]


def _fewer_objects(schedule: Schedule) -> Iterable[Schedule]:
    if len(schedule.steps) > 1:
        yield replace(schedule, steps=schedule.steps[:-1])
    if schedule.is_full:
        yield replace(schedule, is_full=False)
    for key in schedule.keys:
        source = tuple(put for put in schedule.source if put.key != key)
        if source:
            destination = tuple(put for put in schedule.destination if put.key != key)
            yield replace(schedule, source=source, destination=destination)
    if schedule.in_flight > 1:
        yield replace(schedule, in_flight=1)


def _fewer_acts(schedule: EventSchedule) -> Iterable[EventSchedule]:
    for index in range(len(schedule.acts)):
        if len(schedule.acts) > 1:
            yield replace(schedule, acts=schedule.acts[:index] + schedule.acts[index + 1 :])
    for plain in ({"source": ()}, {"pollers": 1}, {"batch_messages": 1}, {"lateness": 0.0}, {"doubles": 0.0}):
        smaller = replace(schedule, **plain)
        if smaller != schedule:
            yield smaller


COURSES = {
    "commands": CourseKind(Schedule, lambda seed: make_schedule(seed, is_full=False), Course, _fewer_objects),
    "events": CourseKind(EventSchedule, make_event_schedule, EventCourse, _fewer_acts),
    "archives": CourseKind(
        ArchiveSchedule, lambda seed: make_archive_schedule(seed, is_full=False), ArchiveCourse, smaller
    ),
    "large copies": CourseKind(LargeCopySchedule, make_large_copy_schedule, LargeCopyCourse, smaller_large),
    "last copies": CourseKind(LastCopySchedule, make_last_copy_schedule, LastCopyCourse, fewer_acts),
    "nights": CourseKind(NightSchedule, make_night_schedule, NightCourse, fewer_asked),
}
_BLOCK = ("commands", "archives", "commands", "events", "commands", "nights", "last copies", "events")
SHARES = (*_BLOCK * 3, *_BLOCK[:4], "large copies", *_BLOCK[5:])
"""The course of a seed, by what is left when it is divided by their number."""


_OFTEN_FULL: dict[str, Callable[[int], Any]] = {"commands": make_schedule, "archives": make_archive_schedule}


def name_of(schedule: Any) -> str:
    """The name of the kind of course that a schedule takes."""
    return next(name for name, kind in COURSES.items() if type(schedule) is kind.schedule)


def make(seed: int) -> Any:
    """The schedule of a seed; one of 256 commands' and archives' with the real planners, fold and files."""
    name = SHARES[seed % len(SHARES)]
    return _OFTEN_FULL.get(name, COURSES[name].make)(seed)
