"""Functions of the usual shape, with which bench/cold_start.py compares ours. They import nothing of ours."""
