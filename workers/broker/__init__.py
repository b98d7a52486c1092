"""The bus: a Dramatiq broker on Redis. `CallboardBroker` is the way in; `keys.py` is the operators' reference."""

from .broker import CallboardBroker
from .calls import Change, Receipt, Removal, TakenOff
from .codec import MessageCodec
from .connect import connect
from .crew import CrewHealth
from .dead_letter import DeadLetter
from .depth import PriorityDepth, QueueDepth
from .errors import BusFull, BusRefused, BusUnavailable
from .generation import Generation
from .limit import Limit
from .outgoing import dated
from .parcel import Delivery, Parcel
from .policy import Policy
from .settlement import Outcome, Settlement, Verdict

__all__ = [
    "BusFull",
    "BusRefused",
    "BusUnavailable",
    "CallboardBroker",
    "Change",
    "CrewHealth",
    "DeadLetter",
    "Delivery",
    "Generation",
    "Limit",
    "MessageCodec",
    "Outcome",
    "Parcel",
    "Policy",
    "PriorityDepth",
    "QueueDepth",
    "Receipt",
    "Removal",
    "Settlement",
    "TakenOff",
    "Verdict",
    "connect",
    "dated",
]
