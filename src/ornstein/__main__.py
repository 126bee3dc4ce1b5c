"""`python -m ornstein` is the command `ornstein`."""

from ornstein.cli import main

main()
