"""Processes for the pure work on text. What is asked of them is answered in the order in which it was asked.

A worker ends when its pipe does, so none outlives its parent, however that dies; signals it leaves to its parent. Costs
0.5 s to start, and the memory of an interpreter with NumPy (70 MB) for each. One worker is none: what is asked is then
done here.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

from sweeps.errors import EnvironmentError_, OrchestratorError

AHEAD = 2
"""Questions per worker that are under way."""
HELD_BACK = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
"""What asks a whole group of processes to leave: the parent decides when."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Workers:
    """Some processes, started when they are first needed."""

    def __init__(self, count: int = 1) -> None:
        """Start nothing yet."""
        self.count = count
        self._idle: queue.SimpleQueue[tuple[BaseProcess, Connection]] = queue.SimpleQueue()
        self._started: list[tuple[BaseProcess, Connection]] = []
        self._beside: ThreadPoolExecutor | None = None

    def answers(self, function: Callable[[Item], Answer], items: Iterable[Item]) -> Generator[Answer]:
        """Yield `function` of each item; a function of a module, and all pure.

        Raises:
            EnvironmentError_: a worker died.
            OrchestratorError: what making the items raised, after the answers to those that it made.
        """
        if self.count == 1:
            yield from map(function, items)
            return
        self._start()
        yield from in_order(lambda item: self._ask(function, item), items, self.count)

    def beside(self, work: Callable[[], None]) -> Future[None]:
        """Do this in a thread, one after another; with one worker at once."""
        if self.count > 1:
            self._beside = self._beside or ThreadPoolExecutor(1, thread_name_prefix="beside")
            return self._beside.submit(work)
        work()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _start(self) -> None:
        if self._started:
            return
        spawn = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # it would let the signals through again, between here and a worker
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        try:
            for _ in range(self.count):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                self._started.append((process, ours))
                self._idle.put((process, ours))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _ask(self, function: Callable[[Item], Answer], item: Item) -> Answer:
        process, pipe = self._idle.get()
        try:
            pipe.send((function, item))
            answer: Answer = pipe.recv()
        except (EOFError, OSError) as error:  # OSError: in the middle of an answer
            process.join()
            raise EnvironmentError_(f"a process that works on the text died (exit code {process.exitcode}); the job's "
                                    "log may say why, or it had too little memory") from error
        finally:
            self._idle.put((process, pipe))
        return answer

    def close(self) -> None:
        """End them."""
        if self._beside is not None:
            self._beside.shutdown(cancel_futures=True)
        for process, _ in self._started:
            process.kill()
        for process, _ in self._started:
            process.join()
        self._started = []


def in_order(function: Callable[[Item], Answer], items: Iterable[Item], threads: int) -> Generator[Answer]:
    """Yield `function` of each item, in order, computed by some threads; raises what making the items raised, last."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="text")
    waiting: deque[Future[Answer]] = deque()
    failed: OrchestratorError | None = None
    try:
        source = iter(items)
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except OrchestratorError as error:  # who stops at an earlier answer never hears of it
                failed = error
                break
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failed is not None:
            raise failed
    finally:
        pool.shutdown(cancel_futures=True)


def _serve(pipe: Connection) -> None:
    """Answer until the pipe ends."""
    while True:
        try:
            function, item = pipe.recv()
            pipe.send(function(item))
        except (EOFError, ConnectionError):
            return
