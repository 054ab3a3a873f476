"""An event loop without a clock, sockets or threads of its own: time is a number, and a seed says what runs next.

Everything that asyncio does by `call_soon` and `call_later` works here, so that the product's coroutines run as they
are. A process is a label in the context of its tasks: when it dies, none of them takes another step, and no `finally`
runs, as if it had been killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, cast

MULTIPLIER, MASK = 0x5851F42D4C957F2D, 2**64 - 1
"""Knuth's linear congruential generator (MMIX): cheap, and its upper bits are random enough to pick one of a few."""
STEPS_MAX = 60_000
"""No schedule is that long: one that reaches it goes round in circles."""


class Mortal:
    """What can die: see `Loop.run`."""

    is_dead: bool = False


LABEL: ContextVar[Mortal | None] = ContextVar("process", default=None)


_registered: Any = getattr(asyncio.tasks, "_scheduled_tasks", getattr(asyncio.tasks, "_all_tasks", None))
"""Where asyncio enters each new task (Python 3.12 has another name for it than 3.11), if there is such a thing.

A set of weak references, which costs much: a loop that runs keeps its tasks itself, in a list.
"""


class Stuck(Exception):
    """Nothing can go on, or all goes on for ever."""


class Handle(list[Any]):
    """A callback to come, its arguments and its context: what `call_soon` and `call_later` return. Cancelled: empty.

    A list, because there are hundreds in each schedule: it is made, and cancelled, without a call into Python.
    """

    __slots__ = ()
    cancel = list.clear

    def cancelled(self) -> bool:
        return not self


class Task(asyncio.Task):
    """A task whose hash is its number: a set of tasks has the same order in each run."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: Loop, context: Context | None, number: int):
        self.number = number
        self.label = LABEL.get() if context is None else context.get(LABEL)
        super().__init__(coroutine, loop=loop.as_asyncio, context=context)

    def __hash__(self) -> int:
        return self.number


class Loop:
    """`seed` picks among the steps that are ready. None keeps the order of arrival.

    A seed gives one schedule on every version of Python. Versions differ in how many callbacks of asyncio's own lie
    between two steps of a task, so none of these is chosen among: they run first, as they come. What is picked depends
    on the seed, the moment and how many picks that moment has seen, so no other moment feels a difference.
    """

    def __init__(self, seed: int | None):
        self._seed = seed
        self._picks = seed or 0
        self.now = 0.0
        self.as_asyncio = cast(asyncio.AbstractEventLoop, self)
        """This loop: it has of asyncio's interface what a program without sockets and processes uses."""
        self.create_future: Callable[[], asyncio.Future[Any]] = partial(asyncio.Future, loop=self.as_asyncio)
        self._ready: list[Handle] = []
        self._plumbing: deque[Handle] = deque()
        """Callbacks that asyncio runs between two steps of tasks, and timers' cancellations."""
        self._frozen: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()
        self._tasks: list[Task] = []
        self.steps = 0
        self._last_step = STEPS_MAX
        self.is_over = False

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run until `main` has ended; its result. Raises Stuck. What is left then never goes on."""
        with self.running():
            try:
                task = self.create_task(main)
                self.go_on(task.done)
                return task.result()
            finally:
                self.is_over = True
                self.bury()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """This is the thread's loop, and takes steps by `go_on`."""
        is_collecting = gc.isenabled()
        gc.disable()  # so that nothing ends at a moment that the seed does not know
        asyncio._set_running_loop(self.as_asyncio)
        self._last_step = self.steps + STEPS_MAX
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._close_generator)
        if _registered is not None:
            _registered.add = id  # which does nothing, and takes no time
        try:
            yield
        finally:
            if _registered is not None:
                del _registered.add
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(None)
            if is_collecting:
                gc.enable()

    def thaw(self) -> None:
        """What died may go on, if it is not dead any more."""
        self._ready += self._frozen
        self._frozen.clear()

    def _close_generator(self, generator: Any) -> None:
        """An asynchronous generator was dropped: as in asyncio, a task closes it; of the dead, nothing does."""
        label = LABEL.get()
        if not self.is_over and not (label is not None and label.is_dead):
            self.call_soon(lambda: self.create_task(generator.aclose()))

    def go_on(self, is_done: Callable[[], bool]) -> None:
        """Take one step after the other."""
        ready, plumbing, is_in_order = self._ready, self._plumbing, self._seed is None
        while not is_done():
            if not (ready or plumbing):
                self._pass_time()
            if plumbing:
                handle = plumbing.popleft()
            elif is_in_order or len(ready) == 1:
                handle = ready.pop(0)
            else:
                self._picks = (self._picks * MULTIPLIER + 1) & MASK
                index = (self._picks >> 33) % len(ready)
                handle, ready[index] = ready[index], ready[-1]
                ready.pop()
            if not handle:
                continue
            callback, arguments, context = handle
            label = context.get(LABEL)
            if label is not None and label.is_dead:
                self._frozen.append(handle)
                continue
            self.steps += 1
            if self.steps == self._last_step:
                raise Stuck(f"not at an end after {STEPS_MAX} steps")
            context.run(callback, *arguments)

    def _pass_time(self) -> None:
        """On to the next moment at which something happens."""
        timers = self._timers
        while timers:
            when, _, handle = heapq.heappop(timers)
            if not handle:
                continue
            self.now = when
            self._picks = hash((self._seed, when)) & MASK
            self._ready.append(handle)
            while timers and timers[0][0] <= when:
                self._ready.append(heapq.heappop(timers)[2])
            return
        raise Stuck("everything waits, nothing will come")

    def bury(self) -> None:
        """Cancel what was left, the dead included, and let it end: it cannot do anything any more, see `is_over`."""
        for task in self._tasks:
            if task.label is not None:
                task.label.is_dead = False
        self.thaw()
        self._last_step = self.steps + STEPS_MAX
        for _ in range(5):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            with contextlib.suppress(Stuck):
                self.go_on(lambda: not (self._ready or self._plumbing or self._timers))
        self._tasks.clear()
        self._ready.clear()
        self._plumbing.clear()
        self._timers.clear()

    is_closed = get_debug = staticmethod(bool)
    """False, and each future asks: without a frame of Python's."""

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        handle = Handle((callback, args, copy_context() if context is None else context))
        is_step = type(getattr(callback, "__self__", None)) is Task
        (self._ready if is_step else self._plumbing).append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        handle = Handle((callback, args, copy_context() if context is None else context))
        heapq.heappush(self._timers, (self.now + delay, next(self._numbers), handle))
        return handle

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        handle = Handle((callback, args, copy_context() if context is None else context))
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> Any:
        task = Task(coro, self, context, next(self._numbers))
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """A thread is a step like any other: the call happens at a moment that the seed picks."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001  the caller's, who waits for it
                future.set_exception(error)
            else:
                future.set_result(result)

        self._ready.append(Handle((work, (), copy_context())))
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Exceptions that nobody fetched: the schedule's own checks say what is wrong."""


def run_at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the store in memory never waits")
