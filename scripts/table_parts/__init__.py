"""What `table.py` reads and writes."""
