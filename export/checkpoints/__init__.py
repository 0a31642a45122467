"""Hub ids, folders and single files -> torch modules."""
