"""The tables that stand in the documentation, each made of results."""
