"""What can be seen of the work from outside: events in the log, spans, objectives and how they are met."""
