"""One run: what was asked for, what is to be done, how it is shared out, what it leaves behind."""
