"""Every benchmark, one after the other: ``make bench``."""

import subprocess
import sys

COMMANDS = (
    ("opcua_decode",),
    ("opcua_load", "--rounds", "1"),
    ("opcua_cuts",),
    ("opcua_browse",),
    ("sparkplug_decode",),
    ("mqtt", "--rounds", "1"),
    ("mtconnect_parse",),
    ("plc_poll",),
    ("plant_day", "--hours", "0.5"),
    ("push",),
    ("remote_link",),
    ("ingest",),
    ("doors",),
    ("live_frames",),
    ("schedule", "--seeds", "1", "--sizes", "1000x20", "--reactions", "40"),
    ("constraints", "--seeds", "2"),
    ("balance", "--every", "4"),
    ("balance", "--takt"),
    ("release", "--seeds", "20"),
    ("sweep", "--seeds", "5"),
    ("stability", "--seeds", "3", "--seconds", "0,2"),
    ("dispatch", "--jobs", "40"),
    ("experiment",),
    ("start",),
    ("pixel", "--seconds", "30"),
    ("reaction", "--events", "100"),
    ("kill_store", "--kills", "20"),
    ("safety",),
    ("plant_load", "--seconds", "600"),
)


def main() -> None:
    """Run all; go on when one fails, and say so at the end."""
    failed = []
    for name, *options in COMMANDS:
        print(f"\n== python -m bench.{name} {' '.join(options)}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"bench.{name}", *options], check=False)
        if done.returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
