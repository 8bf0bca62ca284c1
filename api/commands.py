"""How the mutations of a batch that share a partition and a request_id become commands, each with an id of its own.

Nodes cut by it, and clients, who may have had no answer, name by it the command to resolve. It is part of the contract:
a client that counted otherwise would ask about another command.
"""

MUTATIONS_PER_COMMAND_MAX = 96
"""More of one partition become several commands: each is applied in one piece (P8)."""

COMMAND_NUMBER_BYTES_MAX = 4
"""Longest addition to a request_id: a batch has too few operations for a command number of more than three digits."""


def command_id(request_id: bytes, place: int) -> bytes:
    """The id of the command with the mutation at `place`, counted from 0 among those of its partition and request_id.

    >>> command_id(b"id", 95), command_id(b"id", 96)
    (b'id', b'id/1')
    """
    number = place // MUTATIONS_PER_COMMAND_MAX
    return request_id + b"/%d" % number if number else request_id
