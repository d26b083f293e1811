"""``python -m workshop_brain`` and the command ``brain``."""

import sys

from workshop_brain.errors import BrainError


def main() -> None:
    """Run the command line; a BrainError becomes one clear line and exit code 1."""
    from workshop_brain.cli import app

    try:
        app(standalone_mode=True)
    except BrainError as error:
        print(f"brain: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
