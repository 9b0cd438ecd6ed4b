"""The maker of patterns, among fmri's names; what patterns are stands in `brainrdl.rdms.patterns`."""

from brainrdl.rdms.patterns import make_patterns as make_patterns
