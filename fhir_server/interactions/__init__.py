"""One module per interaction, named by its R4 code; dispatch.py is the table that routes and Bundle entries share."""
