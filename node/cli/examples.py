"""The examples below a command's help."""


def examples(*lines: str) -> str:
    """Command lines as a block that Typer's Markdown keeps as it is."""
    return "\n".join(["Examples:", "", "```shell", *lines, "```"])
