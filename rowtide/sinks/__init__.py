"""Sinks: folders and tables that accepted rows are written to; to write a row again changes nothing."""
