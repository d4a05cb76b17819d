"""Access: who may send work to this server, and how much of it; off unless a keys file is given."""
