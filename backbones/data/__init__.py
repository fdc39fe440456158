"""Classification data: pictures with one label each."""
