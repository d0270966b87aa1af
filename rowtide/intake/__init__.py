"""How rows come in: read from a source, told apart, admitted to a run."""
