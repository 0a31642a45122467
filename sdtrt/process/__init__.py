"""The process and its surroundings: environment variables, standard streams, signals."""
