"""A random killer of workers, Redis and connections, whose whole schedule follows from a seed."""

import heapq
import itertools
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from metafleet.contracts.settings import Settings
from tests.fleet import WorkerProcess
from tests.redis_server import RedisServer
from tests.tcp_proxy import TcpProxy

GAP_S = (0.5, 7.0)
"""Seconds between two faults; several may last at the same time."""


@dataclass
class Post:
    """A place that one worker after the other fills."""

    name: str
    settings: Settings
    worker: WorkerProcess | None = None
    generation: int = 0

    def fill(self) -> None:
        self.worker = WorkerProcess(self.settings, f"{self.name}-{self.generation}", environment={})
        self.generation += 1


class RandomKiller:
    """Breaks things until ``stop`` is called, then repairs them all.

    Args:
        posts: where workers stand; filled by ``start``.
        server: the Redis.
        proxy: through which everybody reaches it.
        seed: of the schedule: what, whom, when and for how long.
        look: called before every fault.
    """

    def __init__(
        self,
        posts: list[Post],
        server: RedisServer,
        proxy: TcpProxy,
        *,
        seed: int,
        look: Callable[[], None],
    ) -> None:
        self._posts, self._server, self._proxy, self._look = posts, server, proxy, look
        self._whole = list(posts)  # posts whose worker is untouched
        self._is_redis_up = True
        self._is_proxy_well = True
        self._random = random.Random(seed)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._leaving: list[WorkerProcess] = []
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.faults: Counter[str] = Counter()

    def start(self) -> None:
        for post in self._posts:
            post.fill()
        self._thread.start()

    def stop(self) -> None:
        """Stop breaking things and repair what is broken; raise any error of the thread."""
        self._ended.set()
        self._thread.join()
        while self._agenda:
            heapq.heappop(self._agenda)[2]()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End every worker."""
        for worker in [*self._leaving, *(post.worker for post in self._posts)]:
            if worker is not None:
                worker.stop()

    def _work(self) -> None:
        began_s, now_s = time.monotonic(), 0.0
        next_fault_s = self._random.uniform(*GAP_S)
        try:
            while True:
                is_mending = bool(self._agenda) and self._agenda[0][0] <= next_fault_s
                now_s = self._agenda[0][0] if is_mending else next_fault_s
                if self._ended.wait(max(0.0, began_s + now_s - time.monotonic())):
                    return
                if is_mending:
                    heapq.heappop(self._agenda)[2]()
                else:
                    self._look()
                    self._break_something(now_s)
                    next_fault_s = now_s + self._random.uniform(*GAP_S)
        except BaseException as error:
            self._failure = error

    def _break_something(self, now_s: float) -> None:
        faults = [self._kill, self._freeze, self._dismiss] * 3 if self._whole else []
        if self._is_redis_up:
            faults.append(self._restart_redis)
        if self._is_proxy_well:
            faults += [self._cut, self._delay, self._silence]
        if faults:
            fault = self._random.choice(faults)
            self.faults[fault.__name__.strip("_").replace("_", " ")] += 1
            fault(now_s)

    def _kill(self, now_s: float) -> None:
        post = self._take_one()
        assert post.worker is not None
        post.worker.kill()
        self._later(now_s, 0.0, 4.0, lambda: self._refill(post))

    def _freeze(self, now_s: float) -> None:
        post = self._take_one()
        worker = post.worker
        assert worker is not None
        worker.send(signal.SIGSTOP)

        def thaw() -> None:
            worker.send(signal.SIGCONT)
            self._whole.append(post)

        self._later(now_s, 0.2, 8.0, thaw)

    def _dismiss(self, now_s: float) -> None:
        post = self._take_one()
        assert post.worker is not None
        post.worker.send(signal.SIGTERM)
        self._leaving.append(post.worker)
        self._later(now_s, 0.0, 4.0, lambda: self._refill(post))

    def _restart_redis(self, now_s: float) -> None:
        self._is_redis_up = False
        self._server.kill()

        def start() -> None:
            self._server.start()
            self._is_redis_up = True

        self._later(now_s, 0.0, 2.0, start)

    def _cut(self, now_s: float) -> None:
        self._proxy.cut()

    def _delay(self, now_s: float) -> None:
        self._is_proxy_well = False
        self._proxy.delay_s = self._random.uniform(0.001, 0.05)
        self._later(now_s, 0.5, 4.0, self._mend_proxy)

    def _silence(self, now_s: float) -> None:
        self._is_proxy_well = False
        self._proxy.is_silent = True
        self._later(now_s, 0.5, 4.0, self._mend_proxy)

    def _mend_proxy(self) -> None:
        was_silent = self._proxy.is_silent
        self._proxy.delay_s, self._proxy.is_silent = 0.0, False
        if was_silent:
            self._proxy.cut()  # what was swallowed cannot be made up for
        self._is_proxy_well = True

    def _take_one(self) -> Post:
        return self._whole.pop(self._random.randrange(len(self._whole)))

    def _refill(self, post: Post) -> None:
        post.fill()
        self._whole.append(post)

    def _later(self, now_s: float, least_s: float, most_s: float, call: Callable[[], None]) -> None:
        at_s = now_s + self._random.uniform(least_s, most_s)
        heapq.heappush(self._agenda, (at_s, next(self._order), call))
