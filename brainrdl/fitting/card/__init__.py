"""How well a network's layers match measured RDMs, on stimuli that nothing was fitted to, beside what rivals them."""

from brainrdl.fitting.card.inputs import CardInputs, CardRequest, read_inputs
from brainrdl.fitting.card.page import write_card
from brainrdl.fitting.card.scores import Card, CardOptions, make_card

__all__ = ["Card", "CardInputs", "CardOptions", "CardRequest", "make_card", "read_inputs", "write_card"]
