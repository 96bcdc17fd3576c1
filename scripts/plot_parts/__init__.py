"""What `plot_returns.py` draws and writes."""
