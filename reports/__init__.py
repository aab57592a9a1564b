"""Data: templates of the HTML report."""
