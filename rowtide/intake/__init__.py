"""How rows come in: read from a source, parsed, admitted to a run."""
