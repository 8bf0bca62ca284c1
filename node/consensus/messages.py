"""Short names for the kinds of Raft's messages, and what carries one to its node."""

from typing import NamedTuple

from ...api.proto.ringhold.internal.v1 import peer_pb2 as peer
from ...api.proto.ringhold.internal.v1.peer_pb2 import RaftMessage

APPEND, APPENDED = peer.RAFT_KIND_APPEND, peer.RAFT_KIND_APPENDED
PRE_VOTE, PRE_VOTED = peer.RAFT_KIND_PRE_VOTE, peer.RAFT_KIND_PRE_VOTED
VOTE, VOTED = peer.RAFT_KIND_VOTE, peer.RAFT_KIND_VOTED
TIMEOUT_NOW, STEPPED_DOWN = peer.RAFT_KIND_TIMEOUT_NOW, peer.RAFT_KIND_STEPPED_DOWN
CONFIRM, CONFIRMED = peer.RAFT_KIND_CONFIRM, peer.RAFT_KIND_CONFIRMED
OFFER, GONE = peer.RAFT_KIND_OFFER, peer.RAFT_KIND_GONE

OF_LEADER = (APPEND, CONFIRM, OFFER)
"""What only the leader of a term says."""


class Outbound(NamedTuple):
    """A message, and the node it goes to."""

    target: str
    message: RaftMessage
