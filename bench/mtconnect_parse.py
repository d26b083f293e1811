"""Reading MTConnect documents: us per observation, beside ElementTree in the same run.

Both give the same columns (data item, instant, text); rounds are interleaved, the median counts.
"""

import statistics
import time
import xml.etree.ElementTree as ET
from datetime import datetime

from workshop_brain.connect.mtconnect.document import read_streams

OBSERVATIONS = 1000
ROUNDS = 15
NS = "{urn:mtconnect.org:MTConnectStreams:2.0}"


def document() -> bytes:
    """A sample document of 20 components with 50 observations each."""
    components = []
    for c in range(20):
        rows = "".join(
            f'<Position dataItemId="c{c}x{k % 10}" timestamp="2026-03-01T00:00:{k % 60:02d}.'
            f'{k * 20 + c:03d}Z" name="Xact" sequence="{c * 50 + k}" subType="ACTUAL">'
            f"{k * 0.125}</Position>"
            for k in range(OBSERVATIONS // 20)
        )
        components.append(
            f"<ComponentStream component='X'><Samples>{rows}</Samples></ComponentStream>"
        )
    head = f'<MTConnectStreams xmlns="{NS[1:-1]}"><Header instanceId="1" nextSequence="9"/>'
    body = f"<Streams><DeviceStream>{''.join(components)}</DeviceStream></Streams>"
    return f"{head}{body}</MTConnectStreams>".encode()


def with_element_tree(content: bytes) -> list[tuple[str, int, str]]:
    """The plain way: ElementTree and datetime."""
    out = []
    for block in ET.fromstring(content).iter(f"{NS}Samples"):
        for row in block:
            moment = datetime.fromisoformat(row.attrib["timestamp"])
            stamp = round(moment.timestamp() * 1000) * 1_000_000
            out.append((row.attrib["dataItemId"], stamp, row.text or ""))
    return out


def main() -> None:
    """Print both, and check that they read the same."""
    content = document()
    found = read_streams(content)
    ours = list(zip(found.item, found.time_ns, found.text, strict=True))
    assert ours == with_element_tree(content)
    times: dict[str, list[float]] = {"workshop brain": [], "ElementTree": []}
    for _ in range(ROUNDS):
        for name, read in (("workshop brain", read_streams), ("ElementTree", with_element_tree)):
            began = time.process_time()
            for _ in range(5):
                read(content)
            times[name].append((time.process_time() - began) / 5 / OBSERVATIONS * 1e6)
    for name, each in times.items():
        low, high = min(each), max(each)
        print(f"{name:16} {statistics.median(each):6.2f} us/observation ({low:.2f}-{high:.2f})")


if __name__ == "__main__":
    main()
