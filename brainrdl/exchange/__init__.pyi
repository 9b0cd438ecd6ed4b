from .description import describe as describe
from .description import describe_as_text as describe_as_text
from .files import read_rdms as read_rdms
from .files import write_rdms as write_rdms
from .rsatoolbox import from_rsatoolbox as from_rsatoolbox
from .rsatoolbox import to_rsatoolbox as to_rsatoolbox
