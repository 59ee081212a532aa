"""How much faster than what users have today: ``python -m bench``. Never shipped."""
