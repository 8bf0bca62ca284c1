"""`python -m ringhold` is the `ringhold` command."""

from .node.cli.app import run

if __name__ == "__main__":
    run()
