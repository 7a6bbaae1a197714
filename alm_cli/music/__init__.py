"""Music as notes: what a piece is made of before it sounds."""
