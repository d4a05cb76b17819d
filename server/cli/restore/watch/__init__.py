"""`promptir restore --watch`: restores each photo that appears in a folder, once."""
