"""Videos with jump cuts, made of unbroken ones: what the cuts cost an avatar."""
