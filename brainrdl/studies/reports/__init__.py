"""What a study leaves to read: tables, figures and a page."""
