"""The commands, one screen each: parse, call a system, hand the work to a job."""
