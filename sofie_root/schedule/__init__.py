"""Target-free stages over Programs: from a lowered Program to one whose statements are few and large."""
