"""`python -m cli`: the same as `rowtide`."""

from cli.main import main

main()
