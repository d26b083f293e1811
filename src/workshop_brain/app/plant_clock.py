"""Plant time from source stamps: it follows the newest ones and runs on between them."""

import time
from collections import deque

from workshop_brain.units import NS_PER_S

_WINDOW_S = 20.0
_BUCKET_S = 0.5
_LEAST_S = 2.0
_JUMP_S = 60.0
_AGREE_S = 0.5
_EASE = 0.05


class PlantClock:
    """Satisfies ports.Clock.

    Each batch tells "plant time was at least t when the wall said w". The least delayed of these
    carry the estimate; the rate (plant seconds per wall second) is their slope over the last
    20 s of wall time. Before the first stamp plant time is wall time.
    """

    def __init__(self) -> None:
        self._anchor_wall = 0
        self._anchor_plant = 0
        self._rate = 1.0
        self._last = 0
        self._best: deque[tuple[int, int]] = deque()
        self._bucket: tuple[int, int, int] | None = None
        self._far: tuple[int, int] | None = None

    @property
    def rate(self) -> float:
        """Plant seconds per wall second; 1.0 for a real plant."""
        return self._rate

    @property
    def is_set(self) -> bool:
        """Whether any stamp has been seen."""
        return self._anchor_wall > 0

    def plant_ns(self) -> int:
        """Plant time now, ns since the epoch, UTC; never runs backwards but at a restart."""
        wall = self.wall_ns()
        if not self.is_set:
            return wall
        self._last = max(self._last, self._at(wall))
        return self._last

    def wall_ns(self) -> int:
        """Wall time now, ns since the epoch, UTC."""
        return time.time_ns()

    def observe(self, plant_ns: int, wall_ns: int) -> None:
        """Take the newest good source stamp of a batch and the wall time of its arrival.

        Stamps more than a minute off (of plant seconds at the present rate) start the clock anew
        when they agree for half a second and no others come between: the plant was restarted at
        another time. One device with a wrong clock does not make plant time.
        """
        if not self.is_set:
            self._restart(plant_ns, wall_ns)
            return
        ahead = plant_ns - self._at(wall_ns)
        if abs(ahead) > _JUMP_S * NS_PER_S * max(1.0, self._rate):
            if ahead > 0:
                self._jump(plant_ns, wall_ns)
            elif wall_ns - self._anchor_wall > _LEAST_S * NS_PER_S:
                self._restart(plant_ns, wall_ns)
            return
        self._far = None
        if ahead > 0:
            self._anchor_wall, self._anchor_plant = wall_ns, plant_ns
        self._collect(plant_ns, wall_ns)

    def _jump(self, plant_ns: int, wall_ns: int) -> None:
        """A stamp far ahead: believed once later ones agree with it.

        Stamps that run on faster than the present rate tell a faster plant: at 360 plant seconds
        a second, a batch that comes late is far ahead, and so are all after it.
        """
        if self._far is None or plant_ns < self._far[0]:
            self._far = (plant_ns, wall_ns)
            return
        grown, waited = plant_ns - self._far[0], wall_ns - self._far[1]
        if waited < _AGREE_S * NS_PER_S:
            return
        if grown > _JUMP_S * NS_PER_S * max(1.0, self._rate):
            self._rate = grown / waited
        self._restart(plant_ns, wall_ns)

    def _at(self, wall_ns: int) -> int:
        return self._anchor_plant + round((wall_ns - self._anchor_wall) * self._rate)

    def _restart(self, plant_ns: int, wall_ns: int) -> None:
        self._anchor_wall, self._anchor_plant = wall_ns, plant_ns
        self._last = plant_ns
        self._far = None
        self._best.clear()
        self._bucket = (wall_ns, wall_ns, plant_ns)

    def _collect(self, plant_ns: int, wall_ns: int) -> None:
        """Keep the least delayed stamp of each half second; they give the rate."""
        if self._bucket is None:
            self._bucket = (wall_ns, wall_ns, plant_ns)
            return
        begin, best_wall, best_plant = self._bucket
        lead = plant_ns - best_plant - round((wall_ns - best_wall) * self._rate)
        if lead >= 0:
            best_wall, best_plant = wall_ns, plant_ns
        if wall_ns - begin < _BUCKET_S * NS_PER_S:
            self._bucket = (begin, best_wall, best_plant)
            return
        self._best.append((best_wall, best_plant))
        self._bucket = (wall_ns, wall_ns, plant_ns)
        while wall_ns - self._best[0][0] > _WINDOW_S * NS_PER_S:
            self._best.popleft()
        self._fit(wall_ns)

    def _fit(self, wall_ns: int) -> None:
        first, last = self._best[0], self._best[-1]
        span = last[0] - first[0]
        if span < _LEAST_S * NS_PER_S:
            return
        rate = (last[1] - first[1]) / span
        if abs(rate - 1.0) < 0.02:
            rate = 1.0
        if rate <= 0:
            return
        now = self._at(wall_ns)
        self._rate = rate
        # Ease back when the estimate ran ahead of all recent stamps (a slower rate than thought).
        newest = last[1] + round((wall_ns - last[0]) * rate)
        self._anchor_wall = wall_ns
        self._anchor_plant = now if newest >= now else now - round((now - newest) * _EASE)
