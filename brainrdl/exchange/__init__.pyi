from .description import describe as describe, describe_as_text as describe_as_text
from .files import read_rdms as read_rdms, write_rdms as write_rdms
from .rsatoolbox import from_rsatoolbox as from_rsatoolbox, to_rsatoolbox as to_rsatoolbox
