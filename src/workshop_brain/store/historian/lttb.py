"""Decimation to the points that the eye needs: largest triangle, three buckets.

The algorithm of S. Steinarsson, "Downsampling Time Series for Visual Representation", University
of Iceland 2013, section 4.2: the first and the last row are kept; every bucket between them gives
the row that spans the largest triangle with the row chosen before and the mean of the next bucket.
Loading this module loads numba.
"""

import numpy as np
from numpy.typing import NDArray

from workshop_brain.kernel import kernel


@kernel
def largest_triangles(
    x: NDArray[np.float64], y: NDArray[np.float64], points: int
) -> NDArray[np.int64]:
    """Rows to keep, rising.

    x, y : float64[n] without NaN, x rising; points: at least 2. Returns int64[min(n, points)];
    of equal triangles the first row.
    """
    n = len(x)
    if n <= points:
        return np.arange(n)
    kept = np.empty(points, np.int64)
    kept[0], kept[points - 1] = 0, n - 1
    width = (n - 2) / max(points - 2, 1)
    chosen = 0
    for k in range(points - 2):
        start, stop = int(k * width) + 1, int((k + 1) * width) + 1
        after = min(int((k + 2) * width) + 1, n)
        mean_x, mean_y = 0.0, 0.0
        for i in range(stop, after):
            mean_x += x[i]
            mean_y += y[i]
        mean_x /= after - stop
        mean_y /= after - stop
        best, area = start, -1.0
        for i in range(start, stop):
            found = abs(
                (x[chosen] - mean_x) * (y[i] - y[chosen])
                - (x[chosen] - x[i]) * (mean_y - y[chosen])
            )
            if found > area:
                best, area = i, found
        kept[k + 1] = best
        chosen = best
    return kept
