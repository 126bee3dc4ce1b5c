"""`python -m ornstein` is the command `ornstein`."""

from __future__ import annotations

from ornstein import terminal

__all__ = ["main"]


def main() -> None:
    """Run the command line, with or without a terminal."""
    try:
        terminal.prepare()
        from ornstein.cli import main as run

        run()
    except KeyboardInterrupt:
        terminal.stop()
    finally:
        terminal.finish()


if __name__ == "__main__":
    main()
