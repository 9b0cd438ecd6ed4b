from .brain.configuration import (
    Configuration as Configuration,
    checked as checked,
    read_configuration as read_configuration,
    write_example as write_example,
)
from .brain.inputs import load_inputs as load_inputs
from .brain.study import Machine as Machine, describe_plan as describe_plan, fit as fit
from .brain.task_networks import load_fitted as load_fitted
from .card import Card as Card, CardOptions as CardOptions, make_card as make_card
from .inputs import CardInputs as CardInputs, CardRequest as CardRequest, read_inputs as read_inputs
from .reports.card import write_card as write_card
