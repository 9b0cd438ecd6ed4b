from .base import NothingToCompare as NothingToCompare, RDMTeacher as RDMTeacher
from .conditions import ConditionTeacher as ConditionTeacher
from .measured import MeasuredTeacher as MeasuredTeacher
from .network import NetworkTeacher as NetworkTeacher
from .patterns import PatternTeacher as PatternTeacher
