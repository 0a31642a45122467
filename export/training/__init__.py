"""The training of the shipped models, tables and denoisers: one command for each stage."""
