"""An event loop without a clock, sockets or threads of its own: time is a number, and a seed says what runs next.

Everything that asyncio does by `call_soon` and `call_later` works here, so that the product's coroutines run as they
are. A process is a label in the context of its tasks: when it dies, none of them takes another step, and no `finally`
runs, as if it had been killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, cast

STEPS_MAX = 60_000
"""No schedule is that long: one that reaches it goes round in circles."""


class Mortal:
    """What can die: see `Loop.run`."""

    is_dead: bool = False


LABEL: ContextVar[Mortal | None] = ContextVar("process", default=None)


class Stuck(Exception):
    """Nothing can go on, or all goes on for ever."""


class Handle:
    """A callback to come: what `call_soon` and `call_later` return."""

    __slots__ = ("arguments", "callback", "context", "is_cancelled", "when")

    def __init__(self, when: float, callback: Callable[..., Any], arguments: tuple[Any, ...], context: Context):
        self.when, self.callback, self.arguments, self.context = when, callback, arguments, context
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled


class Task(asyncio.Task):
    """A task whose hash is its number: a set of tasks has the same order in each run."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: Loop, context: Context | None, number: int):
        self.number = number
        self.label = LABEL.get() if context is None else context.get(LABEL)
        super().__init__(coroutine, loop=loop.as_asyncio, context=context)

    def __hash__(self) -> int:
        return self.number


class Loop:
    """`choose()` gives random numbers in [0, 1) that pick among what is ready; None keeps the order of arrival."""

    def __init__(self, choose: Callable[[], float] | None):
        self._choose = choose
        self._now = 0.0
        self._ready: list[Handle] = []
        self._frozen: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()
        self._tasks: list[Task] = []
        self.steps = 0
        self._steps_left = STEPS_MAX
        self.is_over = False

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run until `main` has ended; its result. Raises Stuck. What is left then never goes on."""
        asyncio._set_running_loop(self.as_asyncio)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._close_generator)
        try:
            task = self.create_task(main)
            while not task.done():
                if not self._ready:
                    self._pass_time()
                self._step()
            return task.result()
        finally:
            self.is_over = True
            self._bury()
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(None)

    def _close_generator(self, generator: Any) -> None:
        """An asynchronous generator was dropped: as in asyncio, a task closes it; of the dead, nothing does."""
        label = LABEL.get()
        if not self.is_over and not (label is not None and label.is_dead):
            self.call_soon(lambda: self.create_task(generator.aclose()))

    @property
    def as_asyncio(self) -> asyncio.AbstractEventLoop:
        """This loop: it has of asyncio's interface what a program without sockets and processes uses."""
        return cast(asyncio.AbstractEventLoop, self)

    def _step(self) -> None:
        ready = self._ready
        if self._choose is None:
            handle = ready.pop(0)
        else:
            index = int(self._choose() * len(ready))
            handle, ready[index] = ready[index], ready[-1]
            ready.pop()
        if handle.is_cancelled:
            return
        label = handle.context.get(LABEL)
        if label is not None and label.is_dead:
            self._frozen.append(handle)
            return
        self.steps += 1
        self._steps_left -= 1
        if not self._steps_left:
            raise Stuck(f"not at an end after {STEPS_MAX} steps")
        handle.context.run(handle.callback, *handle.arguments)

    def _pass_time(self) -> None:
        """On to the next moment at which something happens."""
        timers = self._timers
        while timers:
            when, _, handle = heapq.heappop(timers)
            if handle.is_cancelled:
                continue
            self._now = when
            self._ready.append(handle)
            while timers and timers[0][0] <= when:
                self._ready.append(heapq.heappop(timers)[2])
            return
        raise Stuck("everything waits, nothing will come")

    def _bury(self) -> None:
        """Cancel what was left, the dead included, and let it end: it cannot do anything any more, see `is_over`."""
        for task in self._tasks:
            if task.label is not None:
                task.label.is_dead = False
        self._ready += self._frozen
        self._frozen.clear()
        self._steps_left = STEPS_MAX
        for _ in range(5):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            with contextlib.suppress(Stuck):
                while self._ready or self._timers:
                    if not self._ready:
                        self._pass_time()
                    self._step()
        self._tasks.clear()
        self._ready.clear()
        self._timers.clear()

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        handle = Handle(0.0, callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        handle = Handle(when, callback, args, copy_context() if context is None else context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self.as_asyncio)

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

        self.call_soon(work)
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
