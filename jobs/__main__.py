"""`python -m jobs` is the `sealift` command."""

from jobs.cli import main

main()
