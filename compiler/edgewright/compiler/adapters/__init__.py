"""Other people's tools, each behind one function, none of them needed."""
