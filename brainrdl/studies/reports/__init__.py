"""Reports: the tables, figures and pages that studies leave to read."""
