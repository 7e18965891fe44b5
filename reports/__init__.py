"""Pictures and tables for people: pure functions from a result table to a figure, a table or a page."""
