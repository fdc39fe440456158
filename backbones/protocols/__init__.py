"""How a classifier is tested: which views of a picture it sees, and how their scores become one (section 3.4)."""
