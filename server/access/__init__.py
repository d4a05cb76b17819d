"""Access control: API keys and their quotas; off unless a keys file is configured."""
